"""Adopting sockets and telling systemd, as processes that systemd would start."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bridge.systemd import Notifier
from tests.double.gates import DEADLINE
from tests.end_to_end.programs import scratch

_ADOPTS = """
import json, os, sys
from bridge.systemd import Sockets
os.environ["LISTEN_PID"] = os.environ["LISTEN_PID"].replace("own", str(os.getpid()))
try:
    sockets = Sockets.adopt(os.environ)
    found = {name: sockets.take(name) for name in ("registry", "control", "api")[:int(sys.argv[1])]}
    sockets.require_taken()
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(json.dumps({
    "names": {name: one.getsockname() for name, one in found.items() if one},
    "inherited": [one.get_inheritable() for one in found.values() if one],
    "left": [name for name in os.environ if name.startswith("LISTEN_")],
}))
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch() as directory:
        yield directory


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def unix(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))
        listener.listen()
        yield listener


def adopt(
    passed: Mapping[str, socket.socket], *, names: str | None = None, pid: str = "own", taken: int = 3
) -> subprocess.CompletedProcess[str]:
    """Start a process with sockets as its descriptors from 3 on, as systemd does, and let it adopt them."""
    moves = "".join(f"os.dup2({one.fileno()}, {3 + number + 100}); " for number, one in enumerate(passed.values()))
    moves += "".join(f"os.dup2({3 + number + 100}, {3 + number}); " for number in range(len(passed)))
    start = f"import os, sys; {moves} os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])"
    told = {"LISTEN_PID": pid, "LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": names or ":".join(passed)}
    return subprocess.run(
        [sys.executable, "-c", start, _ADOPTS, str(taken)], check=False, capture_output=True, text=True,
        pass_fds=[one.fileno() for one in passed.values()], env={**os.environ, **told},
    )  # fmt: skip


def test_sockets_are_adopted_by_name_and_passed_on_to_nobody(tcp: socket.socket, unix: socket.socket) -> None:
    done = adopt({"control": unix, "registry": tcp})
    assert json.loads(done.stdout or done.stderr) == {
        "names": {"registry": list(tcp.getsockname()), "control": unix.getsockname()},
        "inherited": [False, False],
        "left": [],
    }


def test_sockets_that_were_meant_for_another_process_are_left_alone(tcp: socket.socket) -> None:
    done = adopt({"registry": tcp}, pid="1")
    assert json.loads(done.stdout or done.stderr) == {"names": {}, "inherited": [], "left": []}


def test_a_socket_that_nobody_takes_is_an_error_that_names_it(tcp: socket.socket, unix: socket.socket) -> None:
    done = adopt({"registry": tcp, "control": unix}, taken=1)
    assert done.returncode == 1
    assert done.stderr.startswith("ListenError: systemd passed a socket that nobody serves here: control; ")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            "podbridge.socket",
            "ListenError: systemd passed a socket named 'podbridge.socket': set FileDescriptorName= to ",
        ),
        (
            "control",
            "ListenError: systemd passed 'control', which does not fit: its unit needs ListenStream= with a path",
        ),
    ],
)
def test_a_socket_that_podbridge_has_no_use_for_is_an_error_that_names_it(
    tcp: socket.socket, names: str, words: str
) -> None:
    assert adopt({"registry": tcp}, names=names).stderr.startswith(words)


def test_two_sockets_of_one_name_are_an_error(tcp: socket.socket) -> None:
    with tcp.dup() as again:
        done = adopt({"registry": tcp, "too": again}, names="registry:registry")
    assert done.stderr.startswith("ListenError: systemd passed two sockets named 'registry'")


def test_a_connection_in_the_place_of_a_listening_socket_is_an_error(tcp: socket.socket) -> None:
    with socket.create_connection(tcp.getsockname()) as connection:
        done = adopt({"registry": connection})
    assert "does not fit: its unit needs ListenStream= with a TCP address, and Accept=no" in done.stderr


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told_at_a_path_and_at_an_abstract_name(directory: Path, kind: str) -> None:
    address = f"{directory}/n" if kind == "path" else f"@{directory.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "PATH": "/bin"}
        notifier = Notifier.adopt(environment)
        assert environment == {"PATH": "/bin"}
        notifier.ready("1 published,\nwatching")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=1 published, watching"


@pytest.mark.parametrize(("pid", "pings"), [(str(os.getpid()), True), ("1", False)], ids=["own", "other"])
async def test_the_watchdog_is_pinged_where_it_watches_this_process(directory: Path, pid: str, pings: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{directory}/n")
        systemd.settimeout(0)
        environment = {"NOTIFY_SOCKET": f"{directory}/n", "WATCHDOG_USEC": "20000", "WATCHDOG_PID": pid}
        keeping = Notifier.adopt(environment).keep_alive()
        if not pings:
            await keeping
            return
        task = asyncio.create_task(keeping)
        async with asyncio.timeout(DEADLINE):
            for _ in range(3):
                assert await asyncio.get_running_loop().sock_recv(systemd, 1000) == b"WATCHDOG=1"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_without_systemd_nobody_is_told() -> None:
    notifier = Notifier.adopt({})
    assert not notifier.told
    notifier.ready("fine")


def test_a_systemd_that_is_away_is_no_failure(directory: Path) -> None:
    Notifier(f"{directory}/nobody").ready("fine")
