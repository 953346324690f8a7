"""Measure how long after a change of the store its image can be pulled, from a running `podbridge serve`.

    python -m tests.benchmarks.latency [--json FILE] [--directory DIR] [--quick]

The clock starts when `podman tag`, `podman build` or `buildah bud` has ended, and stops when a GET of the
tag's manifest is answered with the manifest of that very image; the client asks again every millisecond.
Builds move one tag from image to image, each with a new 10 MB layer. Needs podman and buildah.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.programs import scratch
from tests.end_to_end.stores import Store

from .images import build
from .machine import facts
from .report import say, say_facts, say_missed, say_table, write
from .service import Podbridge, Puller
from .software import MB, Software

SAMPLES, QUICK_SAMPLES = 20, 3
IMAGES = 5
LAYER = 10 * MB
SETTLE = 0.5
"""Seconds of rest before each change: what the last one left to do is over."""


@dataclass(frozen=True, slots=True)
class Change:
    """A kind of change: `make` does the one of this number and returns repository, tag and image ID."""

    name: str
    floor: float
    make: Callable[[int], tuple[str, str, str]]
    latencies: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median latency in seconds."""
        return statistics.median(self.latencies)


class Workshop:
    """A store with a few images, and the changes that are made to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._context = store.directory / "context"
        self._files = self._context / "files"
        Software().fill(self._files, LAYER)
        self._images = [self._build(number, f"localhost/app{number}:1") for number in range(IMAGES)]

    def changes(self) -> list[Change]:
        """Return all kinds of change, with their floors in seconds."""
        return [
            Change("podman tag", 0.3, self.tag),
            Change("podman build", 1.0, self.build),
            Change("buildah bud", 1.0, self.bud),
        ]

    def tag(self, number: int) -> tuple[str, str, str]:
        """Give one more tag to an image that is published."""
        image = self._images[number % IMAGES]
        self._store.podman("tag", image, f"localhost/tagged:{number}")
        return "tagged", str(number), image

    def build(self, number: int) -> tuple[str, str, str]:
        """Build with podman."""
        return "built", "1", self._build(IMAGES + number, "localhost/built:1")

    def bud(self, number: int) -> tuple[str, str, str]:
        """Build with buildah."""
        self._renew(-1 - number)
        words = ["bud", "--quiet", "--isolation=chroot", "--tag", "localhost/bud:1", str(self._context)]
        return "bud", "1", self._store.buildah(*words)

    def _build(self, serial: int, name: str) -> str:
        self._renew(serial)
        return build(self._store, self._context, "FROM scratch\nCOPY files /\n", name)

    def _renew(self, serial: int) -> None:
        """Make the next layer a new one."""
        (self._files / "serial").write_text(f"{serial}\n", encoding="utf-8")


def measure(change: Change, samples: int, puller: Puller) -> None:
    """Make a change as often as asked for, and note the latencies in seconds."""
    for number in range(samples):
        time.sleep(SETTLE)
        reference = change.make(number)
        start = time.perf_counter()
        puller.wait_for(*reference)
        change.latencies.append(time.perf_counter() - start)


def measure_all(store: Store, samples: int) -> list[Change]:
    """Start the service on a store with a few images, and measure every kind of change."""
    workshop = Workshop(store)
    changes = workshop.changes()
    bridge = Podbridge.configure(store, store.directory / "podbridge")
    with bridge.serve():
        puller = Puller(bridge.port)
        puller.wait_for(*workshop.tag(samples))
        for change in changes:
            say(f"{change.name}, {samples} times")
            measure(change, samples, puller)
        puller.close()
    say()
    return changes


def say_changes(changes: list[Change]) -> None:
    """Print the table."""
    rows = []
    for change in changes:
        seconds = change.median, min(change.latencies), max(change.latencies)
        rows.append((change.name, *(f"{value:.3f}" for value in seconds), f"{change.floor:.1f}"))
    say_table(("seconds to the first pull after", "median", "min", "max", "floor"), rows)


def missed(changes: list[Change]) -> list[str]:
    """Name the floors that were missed."""
    slow = [change for change in changes if change.median > change.floor]
    return [f"{change.name}: {change.median:.3f} s, not {change.floor} s" for change in slow]


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.latency")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into FILE")
    directory = Path(tempfile.gettempdir())
    parser.add_argument("--directory", type=Path, default=directory, metavar="DIR", help="work below DIR")
    parser.add_argument("--quick", action="store_true", help="few samples, and no judgement")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run the benchmark; 1 when a floor is missed, 2 for a wrong command line."""
    arguments = parse(words)
    machine = facts(arguments.directory)
    say_facts(machine)
    with scratch(arguments.directory) as directory:
        changes = measure_all(Store(directory), QUICK_SAMPLES if arguments.quick else SAMPLES)
    say_changes(changes)
    latencies = {change.name: change.latencies for change in changes}
    write(arguments.json, {"machine": machine, "seconds": latencies, "missed": missed(changes)})
    if arguments.quick:
        return 0
    say_missed(missed(changes))
    return 1 if missed(changes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
