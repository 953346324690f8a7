"""A machine over Debian 13's files, which debootstrap brings to the directory in PODBRIDGE_DEBIAN13 once."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.box import Box, booted
from tests.systemd.conftest import SOCKETS, UNITS

_ROOT = os.environ.get("PODBRIDGE_DEBIAN13", "")
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "podman", "skopeo", "systemd", "systemd-sysv", "dbus", "ca-certificates", "python3-venv"

CONTAINERS = Path(__file__).parents[2] / "contrib" / "quadlet"

collect_ignore_glob = [] if _ROOT else ["test_*.py"]


@pytest.fixture(scope="session")
def files() -> Path:
    """Debian 13's files: half a gigabyte, which takes a minute and is done once."""
    root, new = Path(_ROOT), Path(f"{_ROOT}.new")
    if not root.exists():
        shutil.rmtree(new, ignore_errors=True)  # one that was cut short
        command = "debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", "trixie", new, _MIRROR
        subprocess.run(command, check=True, timeout=900)
        new.rename(root)
    return root


@pytest.fixture
def box(files: Path) -> Iterator[Box]:
    """A machine with podbridge's service on it, started."""
    with booted(files) as box:
        box.install(UNITS)
        box.run("systemctl", "enable", "--now", *SOCKETS, "podbridge.service")
        yield box
