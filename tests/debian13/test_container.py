"""podbridge in a container, with podman's socket and nothing else of podman; the base is Debian 13, imported."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian13.conftest import CONTAINERS
from tests.end_to_end.programs import eventually, free_port, run, scratch
from tests.end_to_end.services import Client
from tests.end_to_end.stores import Store

_REPOSITORY = CONTAINERS.parents[1]
_CERTIFICATES = "/etc/ssl/certs"

_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
"""What `podman run` needs on a machine without systemd, and with less than its usual limits."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, files: Path) -> Iterator[Store]:
    """A store that holds podbridge's image, and whose service listens in `run/`."""
    with scratch() as directory:
        (directory / "c.conf").write_text(_CONTAINERS_CONF, encoding="utf-8")
        monkeypatch.setenv("CONTAINERS_CONF", str(directory / "c.conf"))
        store = Store(directory)
        run(
            "sh",
            "-c",
            f"tar -C {files} -c . | {' '.join(store.command)} import --quiet - localhost/base:1",
            timeout=300,
        )
        run(
            *store.command, "build", "--quiet", "--network=host", "--isolation=chroot",
            "--build-arg=BASE=localhost/base:1", f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro",
            f"--env=PIP_CERT={_CERTIFICATES}/ca-certificates.crt", "--tag=localhost/podbridge",
            f"--file={CONTAINERS / 'Containerfile'}", _REPOSITORY, timeout=600,
        )  # fmt: skip
        (directory / "run").mkdir()
        service = subprocess.Popen(
            [*store.command, "system", "service", "--time=0", f"unix://{directory}/run/podman.sock"]
        )
        eventually((directory / "run/podman.sock").exists)
        yield store
        service.terminate()
        service.wait(20)


@pytest.mark.timeout(900)
def test_it_publishes_what_is_built_outside_and_leaves_itself_out(store: Store) -> None:
    address = f"127.0.0.1:{free_port()}"
    store.podman(
        "run", "--detach", "--name=podbridge", "--network=host", "--read-only", "--cap-drop=all",
        "--security-opt=no-new-privileges", f"--volume={store.directory}/run:/run/podman",
        "--volume=tree:/var/lib/podbridge", "localhost/podbridge", "serve", f"--listen={address}",
    )  # fmt: skip
    try:
        store.build("localhost/app:1")
        digest = store.digest("localhost/app:1")
        eventually(lambda: " ready " in _said(store), 60)
        eventually(lambda: Client(address).shows("app", "1", digest), 20)
        assert Client(address).digest("podbridge", "latest") is None
        listed = store.podman("exec", "podbridge", "podbridge", "list")
        assert "app:1" in listed
        store.podman("kill", "--signal=HUP", "podbridge")
        eventually(lambda: "configuration read again" in _said(store), 20)
        store.podman("stop", "--time=20", "podbridge")
        assert store.podman("inspect", "--format={{.State.ExitCode}}", "podbridge") == "0"
    finally:
        store.podman("rm", "--force", "podbridge")


def _said(store: Store) -> str:
    done = subprocess.run([*store.command, "logs", "podbridge"], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_podman_makes_a_unit_of_the_quadlet_file(files: Path, tmp_path: Path) -> None:
    """One unknown key, and quadlet drops the whole file."""
    place = files / "tmp" / "quadlet"
    place.mkdir(exist_ok=True)
    (place / "podbridge.container").write_bytes((CONTAINERS / "podbridge.container").read_bytes())
    made = run("chroot", files, "env", "QUADLET_UNIT_DIRS=/tmp/quadlet", "/usr/libexec/podman/quadlet", "--dryrun")
    assert "Type=notify\n" in made
    assert "--sdnotify=container" in made
    assert "-v /run/podman:/run/podman " in made
    (tmp_path / "podbridge.service").write_text(made.partition("---\n")[2], encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "podbridge.service"], check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
