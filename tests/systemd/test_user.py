"""A user's own instance: his systemd, his podman without root, his store, without a login."""

import json

from tests.end_to_end.programs import eventually
from tests.systemd.box import UNITS, Box

_CONTROL = "systemctl", "--user", "--machine=ann@.host"
_AS_ANN = "systemd-run", "--user", "--machine=ann@.host", "--quiet", "--wait", "--pipe", "--collect"


def test_a_lingering_user_has_a_registry_of_his_own_store_without_root(box: Box) -> None:
    box.run("useradd", "--create-home", "ann")
    for unit in ("podbridge.service", "podbridge-registry.socket", "podbridge-control.socket"):
        text = (UNITS / "user" / unit).read_text(encoding="utf-8")
        box.write(f"/home/ann/.config/systemd/user/{unit}", text)
    box.run("mkdir", "--parents", "/home/ann/.local/bin")
    box.run("ln", "--symbolic", "/usr/bin/podbridge", "/home/ann/.local/bin/podbridge")
    box.run("chown", "--recursive", "ann:", "/home/ann")

    box.run("loginctl", "enable-linger", "ann")
    box.run("systemctl", "start", f"user@{box.run('id', '-u', 'ann')}.service")
    box.run(*_CONTROL, "enable", "--now", "podbridge-registry.socket", "podbridge-control.socket", "podbridge.service")

    box.write("/build/file", "ann's")
    box.write("/build/Containerfile", "FROM scratch\nCOPY file /file\n")
    box.run(*_AS_ANN, "podman", "build", "--quiet", "--isolation=chroot", "--tag=localhost/app:1", "/build")
    digest = box.run(*_AS_ANN, "podman", "image", "inspect", "--format={{.Digest}}", "localhost/app:1")
    eventually(lambda: box.shows("app", digest))

    status = json.loads(box.run(*_AS_ANN, "/home/ann/.local/bin/podbridge", "status", "--json"))
    assert status["tree"] == "/home/ann/.local/share/podbridge"
    assert box.run("podman", "images", "--quiet") == ""
    owner = box.run("stat", "--format=%U", f"/proc/{status['pid']}")
    assert owner == "ann"

    # Root's own directory of sockets is closed to him, and that is not there for him.
    box.run("install", "--directory", "--mode=0700", "/run/podbridge")
    box.run(*_CONTROL, "stop", "podbridge-control.socket", "podbridge.service")
    asked = box.ask(*_AS_ANN, "/home/ann/.local/bin/podbridge", "status")
    assert "start one with `podbridge serve`" in asked.stderr
    assert asked.returncode == 1
    box.write("/home/ann/closed.yaml", "control: {socket: /run/podbridge/ann.sock}\n")
    asked = box.ask(*_AS_ANN, "/home/ann/.local/bin/podbridge", "serve", "--config", "/home/ann/closed.yaml")
    assert "cannot listen on /run/podbridge/ann.sock: Permission denied" in asked.stderr
    assert asked.returncode == 1
