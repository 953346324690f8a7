"""The Debian package on a Debian 12 of its own, from debootstrap: `tox -e deb`. Takes root, a network and minutes."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import eventually, mounts_below, run, scratch
from tests.systemd.box import bare

pytestmark = pytest.mark.timeout(1200)

_MIRROR = "http://deb.debian.org/debian"
_ENVIRONMENT = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"
_UNITS = "podbridge-registry.socket", "podbridge-control.socket", "podbridge.service"
_REGISTRY = "http://127.0.0.1:5000/v2/"
_REFUSED = 7
"""curl's exit code where nobody listens."""
_PACKAGE = "/root/podbridge.deb"
_OURS = "-xdev", "-name", "*podbridge*", "-not", "-name", "*.deb"
"""What `find` finds of it, but for the package."""


class Debian:
    """A root file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in it."""
        command: list[str | Path] = ["chroot", self.root, "env", "-i", *_ENVIRONMENT, *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)

    def run(self, *words: str) -> str:
        """Run a program that must succeed."""
        done = self.ask(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def is_enabled(self, unit: str) -> str:
        """Say what systemctl says."""
        return self.ask("systemctl", "is-enabled", unit).stdout.strip()

    def left(self) -> list[str]:
        """Return what has podbridge's name, and is not the package that was put here."""
        return self.run("find", "/", *_OURS).splitlines()

    def unmount(self) -> None:
        """Unmount what programs in it needed."""
        for mount in mounts_below(self.root):
            run("umount", mount)


@pytest.fixture(scope="session")
def clean() -> Iterator[Path]:
    """A minimal Debian 12."""
    with scratch() as directory:
        run("debootstrap", "--variant=minbase", "bookworm", directory / "root", _MIRROR, timeout=900)
        yield directory / "root"


@pytest.fixture
def debian(clean: Path, package: Path) -> Iterator[Debian]:
    """A copy of it, with the package in /root, whose package manager starts nothing."""
    with scratch() as directory:
        root = directory / "root"
        run("cp", "--archive", clean, root, timeout=200)
        shutil.copy(package, root / "root" / "podbridge.deb")
        policy = root / "usr" / "sbin" / "policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
        run("mount", "-t", "proc", "proc", root / "proc")
        run("mount", "-t", "sysfs", "-o", "ro", "sysfs", root / "sys")  # podman's service looks for control groups
        system = Debian(root)
        system.run("apt-get", "update", "-qq")
        try:
            yield system
        finally:
            system.unmount()


def test_it_installs_upgrades_over_itself_and_leaves_nothing_when_purged(debian: Debian) -> None:
    install = "apt-get", "install", "--yes", "--no-install-recommends", "--reinstall", _PACKAGE
    debian.run(*install)
    assert debian.run("podbridge", "--version").startswith("podbridge ")
    assert "no podbridge service answers" in debian.ask("podbridge", "status").stderr
    assert debian.run("getent", "passwd", "podbridge") != ""
    assert [debian.is_enabled(unit) for unit in _UNITS] == ["enabled"] * 3

    (debian.root / "etc/podbridge/podbridge.yaml").write_text("resync: 7m\n", encoding="utf-8")
    debian.run("systemctl", "disable", "podbridge-control.socket")
    debian.run(*install)
    assert "7m" in debian.run("podbridge", "config", "show"), "what an administrator wrote stays"
    assert [debian.is_enabled(unit) for unit in _UNITS] == ["enabled", "disabled", "enabled"]
    debian.run("systemctl", "disable", *_UNITS)
    debian.run(*install)
    assert [debian.is_enabled(unit) for unit in _UNITS] == ["disabled"] * 3

    debian.run("podbridge", "sync", "--tree", "/var/lib/podbridge")
    debian.run("apt-get", "remove", "--yes", "podbridge")
    assert debian.ask("podbridge", "--version").returncode != 0
    assert {"/etc/podbridge/podbridge.yaml", "/var/lib/podbridge/podbridge.json"} <= set(debian.left())
    assert not [path for path in debian.left() if path.startswith(("/usr", "/opt"))]

    debian.run(*install)
    assert debian.is_enabled("podbridge-api.socket") == "disabled", "not masked"
    debian.run("apt-get", "purge", "--yes", "podbridge")
    assert debian.left() == []
    assert debian.run("dpkg", "--audit") == ""


def test_on_a_debian_that_boots_it_is_started_upgraded_while_it_runs_and_taken_away(debian: Debian) -> None:
    packages = "dbus", "buildah", "iproute2", "procps", "curl"
    debian.run("apt-get", "install", "--yes", "--no-install-recommends", _PACKAGE, *packages)
    debian.run("rm", "/usr/sbin/policy-rc.d")
    debian.unmount()
    with bare(debian.root, {}) as box:
        assert "Debian GNU/Linux 12" in box.run("cat", "/etc/os-release")
        box.run("dpkg", "--purge", "podbridge")
        box.run("dpkg", "--install", _PACKAGE)
        assert box.run("curl", "--fail", "--silent", "--include", _REGISTRY).startswith("HTTP/1.1 200")
        digest = box.build("localhost/hello:1")
        eventually(lambda: digest in box.ask("podbridge", "list").stdout)
        assert ": in order, pid " in box.run("podbridge", "status")

        before = box.unit("MainPID")
        box.run("systemctl", "disable", "--now", "podbridge-control.socket")
        box.run("dpkg", "--install", _PACKAGE)
        assert box.unit("MainPID") not in ("0", before)
        assert box.unit("ActiveState", "podbridge-control.socket") == "inactive"
        assert box.shows("hello", digest)

        box.run("dpkg", "--remove", "podbridge")
        assert box.ask("curl", "--fail", "--silent", _REGISTRY).returncode == _REFUSED
        box.run("dpkg", "--purge", "podbridge")
        assert box.run("find", "/", "/run", *_OURS) == ""
