"""A machine of its own for every test, with the units of contrib/systemd on it."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.systemd.box import Box, booted

SYSTEM = "/etc/systemd/system"
SOCKETS = "podbridge-registry.socket", "podbridge-control.socket"
UNITS = {
    **{name: f"{SYSTEM}/{name}" for name in ("podbridge.service", *SOCKETS)},
    "sysusers.conf": "/usr/lib/sysusers.d/podbridge.conf",
    "tmpfiles.conf": "/usr/lib/tmpfiles.d/podbridge.conf",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a machine where none can be made, and say why."""
    here = [item for item in items if "box" in getattr(item, "fixturenames", ())]
    missing = _missing() if here else ""
    for item in here:
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"no systemd can be booted here: {missing}"))


def _missing() -> str:
    if os.geteuid() != 0:
        return "it takes root"
    done = subprocess.run(
        ("unshare", "--pid", "--fork", "--mount", "--net", "--cgroup", "mount", "-t", "cgroup2", "cgroup2", "/mnt"),
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return done.stderr.strip()


@pytest.fixture
def box() -> Iterator[Box]:
    """A machine with podbridge's units in the local form, and nothing of them enabled or started."""
    with booted() as box:
        box.install(UNITS)
        yield box


@pytest.fixture
def serving(box: Box) -> Box:
    """The same, with its sockets listening and its service started."""
    box.run("systemctl", "enable", "--now", *SOCKETS, "podbridge.service")
    return box
