"""contrib/install.sh on a machine with a real systemd: install, start again, upgrade, take away."""

import json

import pytest

from tests.end_to_end.programs import eventually
from tests.systemd.box import Box
from tests.systemd.conftest import SOCKETS

pytestmark = pytest.mark.timeout(1200)

INSTALL = "/checkout/contrib/install.sh"
FILE = "/etc/podbridge/podbridge.yaml"
AS_ANN = "systemd-run", "--user", "--machine=ann@.host", "--quiet", "--wait", "--pipe", "--collect"
UNITS = *SOCKETS, "podbridge.service"
PLACES = "/etc", "/usr", "/opt", "/var/lib", "/run/podbridge", "/home"


def install(box: Box, *words: str) -> str:
    """Run the script, and return what it said on standard error, then what it printed."""
    done = box.ask(INSTALL, *words, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr + box.journal()
    return done.stderr + done.stdout


def upgrade(box: Box) -> str:
    """Install version 9.9.9, and return what the script printed."""
    box.run("mkdir", "/newer")
    for name in ("contrib", "bridge", "pyproject.toml", "README.md", "LICENSE"):
        box.run("cp", "--recursive", f"/checkout/{name}", "/newer/")
    box.run("sed", "--in-place", "s/^__version__ = .*/__version__ = '9.9.9'/", "/newer/bridge/__init__.py")
    return box.run("/newer/contrib/install.sh", timeout=600)


def enabled(box: Box) -> list[str]:
    """Return which units are enabled."""
    return [unit for unit in UNITS if box.ask("systemctl", "is-enabled", unit).stdout.strip() == "enabled"]


def files(box: Box) -> set[str]:
    """Return what lies where an installation writes, but for what systemd and podman write themselves."""
    found = box.ask("find", *PLACES, "-xdev", "-not", "-type", "d", "-not", "-name", "*.pyc").stdout
    others = "/var/lib/containers", "/var/lib/systemd"
    return {line for line in found.splitlines() if not line.startswith(others)}


def status(box: Box) -> dict[str, object]:
    """Return what the service says of itself."""
    told: dict[str, object] = json.loads(box.run("podbridge", "status", "--json"))
    return told


def test_root_installs_upgrades_and_takes_away(box: Box) -> None:
    before = files(box)
    planned = install(box, "--dry-run")
    assert files(box) == before, "a dry run changes nothing"
    assert "would link /usr/bin/podbridge to it" in planned

    said = install(box)
    assert ": in order, pid " in said
    assert "podman pull --tls-verify=false 127.0.0.1:5000/hello:1" in said
    assert {line.removeprefix("would ") for line in planned.splitlines() if line.startswith("would write")} <= {
        line.removeprefix("install.sh: ") for line in said.splitlines()
    }, "a dry run says what will be written"
    digest = box.build("localhost/hello")
    eventually(lambda: box.ask("podbridge", "list").stdout.count(digest) == 1)
    assert box.run("man", "--pager=cat", "podbridge").startswith("PODBRIDGE(1)")
    assert enabled(box) == list(UNITS)

    first = status(box)["pid"]
    box.write(FILE, "resync: 7m\n")
    again = install(box)
    assert [line for line in again.splitlines() if line.startswith("install.sh: ")] == [], "there is nothing to do"
    assert status(box)["pid"] == first

    upgraded = upgrade(box)
    assert "podbridge 9.9.9: in order" in upgraded
    assert box.run("cat", FILE) == "resync: 7m", "the configuration is the administrator's"
    assert len(box.run("find", "/opt/podbridge", "-maxdepth", "1", "-name", "venv-*").splitlines()) == 1
    assert box.run("podbridge", "list").count(digest) == 1

    box.run("systemctl", "disable", "--now", "podbridge.service")
    box.run("systemctl", "enable", "--now", *SOCKETS)  # the service's Also= has disabled them with it
    install(box)
    assert box.run("podbridge", "--version") != "podbridge 9.9.9", "that is the older one again"
    assert enabled(box) == list(SOCKETS)

    install(box, "--uninstall")
    assert box.ask("systemctl", "is-active", "podbridge-registry.socket").returncode != 0
    left = files(box) - before
    assert {FILE, "/var/lib/podbridge/podbridge.json"} <= left
    assert not {
        path for path in left if not path.startswith(("/etc/podbridge", "/var/lib/podbridge", "/run/podbridge"))
    }
    install(box, "--uninstall", "--purge")
    assert {path for path in files(box) - before if "podbridge" in path} == set()
    assert "nothing of podbridge is installed here" in install(box, "--uninstall", "--purge")


def test_an_upgrade_leaves_disabled_what_was_disabled_and_restarts_what_runs(box: Box) -> None:
    install(box)
    box.run("systemctl", "disable", *UNITS)
    first = status(box)["pid"]
    upgrade(box)
    assert enabled(box) == []
    assert status(box)["version"] == "9.9.9"
    assert status(box)["pid"] != first, "what runs is restarted"

    box.run("systemctl", "stop", *UNITS)
    assert "nothing of podbridge is enabled, and that stays so until: systemctl enable --now" in install(box)
    assert [box.unit("ActiveState", unit) for unit in UNITS] == ["inactive"] * 3
    install(box, "--uninstall", "--purge")
    install(box)
    assert enabled(box) == list(UNITS), "that was a first installation again"


def test_what_was_installed_without_a_start_is_left_so(box: Box) -> None:
    install(box, "--no-start")
    upgrade(box)
    assert enabled(box) == []
    assert box.unit("ActiveState") == "inactive"


def test_confined_it_runs_as_a_user_of_its_own_and_stays_so(box: Box) -> None:
    install(box, "--confined")
    digest = box.build("localhost/hello")
    eventually(lambda: box.ask("podbridge", "list").stdout.count(digest) == 1)
    assert box.run("stat", "--format=%U", "/var/lib/podbridge/podbridge.json") == "podbridge"
    install(box)
    assert box.unit("User") == "podbridge"
    install(box, "--uninstall", "--purge")
    assert box.ask("find", "/etc", "-name", "*podbridge*", "-not", "-name", "*.pyc").stdout == ""
    assert box.run("stat", "--format=%G", "/run/podman/podman.sock") == "root"


def test_a_user_installs_for_himself_alone_without_root(box: Box) -> None:
    # Of its own this machine may have no network for podman without root; nothing here needs one.
    box.run("sh", "-c", "command -v slirp4netns || ln -s /bin/true /usr/local/bin/slirp4netns")
    box.run("useradd", "--create-home", "ann")
    box.run("loginctl", "enable-linger", "ann")
    box.run("systemctl", "start", f"user@{box.run('id', '-u', 'ann')}.service")
    before = files(box)
    said = box.ask(*AS_ANN, INSTALL, "--user", timeout=600)
    assert said.returncode == 0, said.stdout + said.stderr
    assert ": in order, pid " in said.stdout
    written = files(box) - before
    assert {path for path in written if not path.startswith("/home/ann/")} == set()
    assert "/home/ann/.local/share/podbridge/podbridge.json" in written
    again = box.ask(*AS_ANN, INSTALL, "--user", timeout=600)
    assert (again.returncode, "write" in again.stderr) == (0, False)
    control = "systemctl", "--user", "--machine=ann@.host"
    box.run(*control, "disable", "--now", *UNITS)
    assert "that stays so until: systemctl --user enable" in box.ask(*AS_ANN, INSTALL, "--user", timeout=600).stderr
    assert box.ask(*control, "is-enabled", *UNITS).stdout.split() == ["disabled"] * 3
    box.run(*AS_ANN, INSTALL, "--user", "--uninstall", "--purge")
    assert {path for path in files(box) - before if "podbridge" in path} == set()


def test_the_journal_has_the_pairs_of_a_line_as_fields(box: Box) -> None:
    install(box)
    digest = box.build("localhost/hello")
    query = "journalctl", "--unit=podbridge.service", "--output=json", "PODBRIDGE_REFERENCE=hello:latest"
    told = eventually(lambda: box.ask(*query).stdout)
    entry = json.loads(told.splitlines()[0])
    assert entry["PODBRIDGE_DIGEST"] == digest
    assert entry["MESSAGE"].startswith(f"published reference=hello:latest digest={digest} ")
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("6", "podbridge")
    assert float(entry["PODBRIDGE_SECONDS"]) > 0


def test_what_somebody_else_put_in_its_place_is_left_alone(box: Box) -> None:
    box.write("/usr/bin/podbridge", "#!/bin/sh\n", 0o755)
    done = box.ask(INSTALL)
    assert done.returncode == 1
    assert "/usr/bin/podbridge is there, but was not made by this script" in done.stderr
    install(box, "--uninstall", "--purge")
    assert box.run("cat", "/usr/bin/podbridge") == "#!/bin/sh"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--frobnicate"], "unknown option --frobnicate"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--user"], "--user is for a user"),
    ],
)
def test_wrong_options_are_refused_in_one_line(box: Box, words: list[str], problem: str) -> None:
    done = box.ask(INSTALL, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
