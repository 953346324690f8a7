"""Measure what the api socket costs beside podman's own: a small answer's time, a large one's, and memory.

    python -m tests.benchmarks.relay [--json FILE] [--quick]

Direct and relayed requests alternate in one run. `_ping` goes over one kept connection each. An image of 1 GB is
saved, and a build context of 1 GB is sent (to a build that fails at its first line). Needs podman.
"""

import argparse
import http.client
import socket
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.end_to_end.programs import scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.relay.worlds import podman

from .machine import facts
from .meter import cpu_seconds, peak_bytes
from .report import say, say_facts, say_missed, say_table, spread, write

PING_FLOOR = 0.0005
"""Seconds that the relay may add to `_ping`, at the median."""
SAVE_FLOOR = 1.3
"""How many times as long as directly a relayed save may take."""
MEMORY_FLOOR = 32 * 1024 * 1024
"""Bytes by which the peak of the service's memory may grow."""
NAME = "localhost/large:1"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    pings: int = 2000
    rounds: int = 3
    megabytes: int = 1000


QUICK = Scale(200, 1, 50)


class Unix(http.client.HTTPConnection):
    """A kept connection to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("d", timeout=300)
        self.path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def ping(connection: Unix) -> float:
    """Return the seconds of one `_ping`."""
    begun = time.perf_counter()
    connection.request("GET", "/_ping")
    assert connection.getresponse().read() == b"OK"
    return time.perf_counter() - begun


def save(path: Path, megabytes: int) -> float:
    """Return the seconds of saving the image."""
    connection = Unix(path)
    begun = time.perf_counter()
    connection.request("GET", f"/v4.0.0/libpod/images/{NAME}/get?format=docker-archive")
    answer, buffer, size = connection.getresponse(), bytearray(1 << 18), 0
    while count := answer.readinto(buffer):
        size += count
    connection.close()
    assert size > megabytes * 1_000_000, size
    return time.perf_counter() - begun


def send(path: Path, megabytes: int) -> float:
    """Return the seconds of sending a build context; podman reads all of it before it finds no Containerfile."""
    connection = Unix(path)
    begun = time.perf_counter()
    headers = {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
    connection.request("POST", "/v4.0.0/libpod/build", context(megabytes), headers, encode_chunked=True)
    connection.getresponse().read()
    connection.close()
    return time.perf_counter() - begun


def context(megabytes: int) -> Iterator[bytes]:
    """Yield a tar with one file of zeros."""
    entry = tarfile.TarInfo("file")
    entry.size = megabytes * 1_000_000
    yield entry.tobuf()
    for _ in range(megabytes):
        yield bytes(1_000_000)
    yield bytes(-entry.size % 512 + 1024)


@contextmanager
def both(directory: Path, megabytes: int) -> Iterator[tuple[Path, Path, int]]:
    """Run podman and podbridge before it; yield podman's socket, podbridge's, and the pid of podbridge."""
    store = Store(directory)
    api = directory / "api.sock"
    settings = {
        "podman": {"command": store.command, "socket": f"unix://{directory / 's'}"},
        "publish": [{"skip": True}],
        "api": {"socket": str(api), "profile": "full"},
    }
    store.build_large(NAME, megabytes)
    with podman(store, directory / "s"), Service(store, directory / "p", settings) as service:
        assert service.process is not None
        yield directory / "s", api, service.process.pid


Pair = tuple[list[float], list[float]]
"""Seconds directly, and through podbridge."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured. `grown` is in bytes, `cpu` in seconds of podbridge's own for one save."""

    pings: Pair = field(default_factory=lambda: ([], []))
    saves: Pair = field(default_factory=lambda: ([], []))
    sends: Pair = field(default_factory=lambda: ([], []))
    grown: int = 0
    cpu: float = 0

    @property
    def added(self) -> float:
        """By how many seconds a ping is slower, at the median."""
        direct, relayed = map(statistics.median, self.pings)
        return relayed - direct

    def missed(self) -> list[str]:
        """Name the floors that were missed."""
        lines = []
        if self.added > PING_FLOOR:
            lines.append(f"_ping: {self.added * 1000:.2f} ms more, allowed are {PING_FLOOR * 1000:.1f}")
        if ratio(self.saves) > SAVE_FLOOR:
            lines.append(f"save: {ratio(self.saves):.2f} times as long, allowed is {SAVE_FLOOR}")
        if self.grown > MEMORY_FLOOR:
            lines.append(f"memory: {self.grown / 1e6:.0f} MB more, allowed are {MEMORY_FLOOR / 1e6:.0f}")
        return lines


def ratio(pair: Pair) -> float:
    """Return how many times as long the relayed one takes, at the median."""
    direct, relayed = map(statistics.median, pair)
    return relayed / direct


def measure(scale: Scale) -> Found:
    """Measure everything, direct and relayed in turn."""
    found = Found()
    with scratch() as directory, both(directory, scale.megabytes) as (direct, relayed, pid):
        ways = direct, relayed
        kept = [Unix(path) for path in ways]
        for _ in range(scale.pings):
            for connection, seconds in zip(kept, found.pings, strict=True):
                seconds.append(ping(connection))
        for connection in kept:
            connection.close()
        before, cpu = peak_bytes(pid), cpu_seconds(pid)
        for _ in range(scale.rounds):
            for path, seconds in zip(ways, found.saves, strict=True):
                seconds.append(save(path, scale.megabytes))
        cpu = (cpu_seconds(pid) - cpu) / scale.rounds
        for _ in range(scale.rounds):
            for path, seconds in zip(ways, found.sends, strict=True):
                seconds.append(send(path, scale.megabytes))
        return replace(found, grown=peak_bytes(pid) - before, cpu=cpu)


def report(found: Found, scale: Scale) -> None:
    """Print the figures."""
    ping, relayed = (f"{statistics.median(seconds) * 1000:.3f} ms" for seconds in found.pings)
    size = f"{scale.megabytes} MB"
    rows = [
        ("_ping", ping, relayed, f"{found.added * 1000:+.3f} ms"),
        (f"save {size}", *map(spread, found.saves), f"{ratio(found.saves):.2f} x"),
        (f"send a context of {size}", *map(spread, found.sends), f"{ratio(found.sends):.2f} x"),
    ]
    say_table(("", "direct", "relayed", ""), rows)
    say(f"podbridge: {found.cpu:.2f} s of CPU for one save, {found.grown / 1e6:.1f} MB more memory at its peak\n")


def main(words: list[str]) -> int:
    """Run; 1 where a floor is missed, but for --quick."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.relay")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into FILE")
    parser.add_argument("--quick", action="store_true", help="small, and no judgement")
    arguments = parser.parse_args(words)
    machine = facts(Path(tempfile.gettempdir()))
    say_facts(machine)
    scale = QUICK if arguments.quick else Scale()
    found = measure(scale)
    report(found, scale)
    write(arguments.json, {"machine": machine, **asdict(found), "missed": found.missed()})
    if arguments.quick:
        return 0
    say_missed(found.missed())
    return 1 if found.missed() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
