"""Who may use the control socket."""

import contextlib
import grp
import logging
import os
import socket
import stat
from pathlib import Path

import pytest

from bridge import listening
from bridge.errors import ConfigError
from tests.faults.world import World

OTHER = next(group for group in grp.getgrall() if group.gr_gid != os.getegid())


def test_the_socket_is_for_its_owner_and_the_group_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "made" / "c.sock"
    with listening.unix_socket(path, "control", OTHER.gr_name):
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, OTHER.gr_gid)
        assert (stat.S_IMODE(path.parent.stat().st_mode), path.parent.stat().st_gid) == (0o710, OTHER.gr_gid)
    with listening.unix_socket(path, "control", str(OTHER.gr_gid)):
        assert path.stat().st_gid == OTHER.gr_gid
    assert not path.exists()


def burst(path: Path) -> int:
    """Connect 1,000 clients at once that wait for nothing, while nobody accepts; return how many got through."""
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                return number
    return 1000


def test_a_burst_of_clients_waits_and_is_not_refused(tmp_path: Path) -> None:
    with listening.unix_socket(tmp_path / "a.sock", "api"):
        assert burst(tmp_path / "a.sock") >= min(1000, somaxconn())


async def test_a_burst_of_clients_waits_at_a_service_that_is_busy(world: World) -> None:
    async with world.podman(), world.service():
        assert burst(world.control) >= min(1000, somaxconn())


def somaxconn() -> int:
    """Return how many the kernel lets wait."""
    return int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="utf-8"))


def test_without_a_group_the_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "c.sock"
    with listening.unix_socket(path, "control"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_that_the_group_cannot_pass_is_warned_of_with_the_way_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o700)
    with caplog.at_level(logging.WARNING), listening.unix_socket(tmp_path / "c.sock", "control", OTHER.gr_name):
        pass
    assert f"chgrp {OTHER.gr_gid} {tmp_path} && chmod g+x {tmp_path}" in caplog.text
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_group_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"control\.group: there is no group 'nobody-has-this'"),
        listening.unix_socket(tmp_path / "c.sock", "control", "nobody-has-this"),
    ):
        pass


def test_a_group_for_a_socket_of_systemds_is_warned_of_with_the_units_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(tmp_path / "c.sock"))
        own = (tmp_path / "c.sock").stat().st_gid
        listening.warn_of_group(passed, "control", str(own))
        listening.warn_of_group(passed, "control", grp.getgrgid(own).gr_name)
        assert caplog.records == []
        listening.warn_of_group(passed, "control", OTHER.gr_name)
        (record,) = caplog.records
        told = f"`systemctl edit podbridge-control.socket`, [Socket], SocketGroup={OTHER.gr_name} key=control.group"
        assert record.getMessage().endswith(told)
