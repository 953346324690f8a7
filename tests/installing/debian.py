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

    def left(self) -> list[str]:
        """Return what has podbridge's name, and is not the package that was put here."""
        words = "-xdev", "-name", "*podbridge*", "-not", "-name", "*.deb"
        return self.run("find", "/", *words).splitlines()


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
        system = Debian(root)
        system.run("apt-get", "update", "-qq")
        try:
            yield system
        finally:
            for mount in mounts_below(directory):
                run("umount", mount)


def test_it_installs_upgrades_over_itself_and_leaves_nothing_when_purged(debian: Debian) -> None:
    install = "apt-get", "install", "--yes", "--no-install-recommends", "--reinstall", "/root/podbridge.deb"
    debian.run(*install)
    assert debian.run("podbridge", "--version").startswith("podbridge ")
    assert "no podbridge service answers" in debian.ask("podbridge", "status").stderr
    assert debian.run("getent", "passwd", "podbridge") != ""
    for unit in _UNITS:
        assert debian.run("systemctl", "is-enabled", unit).strip() == "enabled"

    (debian.root / "etc/podbridge/podbridge.yaml").write_text("resync: 7m\n", encoding="utf-8")
    debian.run("systemctl", "disable", "podbridge.service")
    debian.run(*install)
    assert "7m" in debian.run("podbridge", "config", "show"), "what an administrator wrote stays"
    assert debian.ask("systemctl", "is-enabled", "podbridge.service").stdout.strip() == "disabled"

    debian.run("podbridge", "sync", "--tree", "/var/lib/podbridge")
    debian.run("apt-get", "remove", "--yes", "podbridge")
    assert debian.ask("podbridge", "--version").returncode != 0
    assert {"/etc/podbridge/podbridge.yaml", "/var/lib/podbridge/podbridge.json"} <= set(debian.left())
    assert not [path for path in debian.left() if path.startswith(("/usr", "/opt"))]

    debian.run(*install)
    assert debian.ask("systemctl", "is-enabled", "podbridge-registry.socket").stdout.strip() == "enabled"
    assert debian.ask("systemctl", "is-enabled", "podbridge-api.socket").stdout.strip() == "disabled", "not masked"
    debian.run("apt-get", "purge", "--yes", "podbridge")
    assert debian.left() == []
    assert debian.run("dpkg", "--audit") == ""


def test_on_a_debian_that_boots_its_socket_answers_and_what_is_built_is_served(debian: Debian) -> None:
    packages = "dbus", "buildah", "iproute2", "procps", "curl"
    debian.run("apt-get", "install", "--yes", "--no-install-recommends", "/root/podbridge.deb", *packages)
    run("umount", debian.root / "proc")
    with bare(debian.root, {}) as box:
        box.run("systemctl", "start", *_UNITS[:2])
        assert box.run("curl", "--fail", "--silent", "--include", "http://127.0.0.1:5000/v2/").startswith(
            "HTTP/1.1 200"
        )
        assert "Debian GNU/Linux 12" in box.run("cat", "/etc/os-release")
        digest = box.build("localhost/hello")
        eventually(lambda: digest in box.ask("podbridge", "list").stdout, 30)
        assert ": in order, pid " in box.run("podbridge", "status")
