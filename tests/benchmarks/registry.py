"""Pulls from podbridge, docker-registry, nginx with plain files and bare aiohttp: the same image, one core each.

    python -m tests.benchmarks.registry [--rounds N] [--json FILE] [--quick]

Servers run on the first core, one asked after the other; the load comes from the last one. What counts is how much is
served in a second of the server's processor time, so that other programs on the machine disturb little. Needs wrk;
docker-registry and nginx where they are. Exits 1 where a floor is missed, which --quick does not look at.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bridge.oci import Digest
from tests.end_to_end.programs import scratch
from tests.registry.trees import Shelf
from tests.registry.webservers import NGINX

from . import loads, servers
from .loads import Rate, Target
from .machine import facts
from .meter import children, peak_bytes
from .report import say, say_facts, say_missed, say_table, write

GET, HEAD, SMALL, LARGE, STORM = "manifest GET", "manifest HEAD", "10 KB blob", "500 MB blob, MB", "image of 10 layers"
PODBRIDGE, DOCKER, NGINX_, BARE = "podbridge", "docker-registry", "nginx", "aiohttp"
FLOORS = ((GET, DOCKER, 12), (GET, BARE, 0.8), (HEAD, BARE, 0.8), (SMALL, DOCKER, 25), (LARGE, NGINX_, 0.9))
"""How many times a rival's rate podbridge's has to be, by a second of processor time."""
MEMORY = 60_000_000
"""Bytes that a worker may hold."""
CLIENTS = 50
LAYER = 200_000

Rates = dict[tuple[str, str], list[Rate]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    seconds: int
    large: int


@dataclass(frozen=True, slots=True)
class Bench:
    """The tree, and the paths that are asked for."""

    tree: Path
    directory: Path
    scale: Scale
    manifest: str
    small: str
    image: list[str]
    large: str

    @classmethod
    def make(cls, directory: Path, scale: Scale) -> "Bench":
        """Publish `app`, an image of 10 layers, the first one small, and `large`."""
        shelf = Shelf(directory / "tree")
        layers = [os.urandom(10_000), *(os.urandom(LAYER) for _ in range(9))]
        shelf.image("app:1", *layers)
        large = os.urandom(1_000_000) * (scale.large // 1_000_000)
        shelf.image("large:1", large)
        blobs = [f"/v2/app/blobs/{Digest.of(layer)}" for layer in (b"{}", *layers)]
        manifest = "/v2/app/manifests/1"
        whole = f"/v2/large/blobs/{Digest.of(large)}"
        return cls(shelf.root, directory, scale, manifest, blobs[1], [manifest, *blobs], whole)

    @contextlib.contextmanager
    def servers(self) -> Iterator[dict[str, Target]]:
        """Run every server that is installed; the others are named."""
        both = ["app", "large"]
        constants = {
            "manifests/1": self._file(self.manifest),
            self.small.removeprefix("/v2/app/"): self._file(self.small),
        }
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            found = {PODBRIDGE: enter(servers.podbridge(self.tree, self.directory))}
            if shutil.which(DOCKER) and shutil.which("skopeo"):
                found[DOCKER] = enter(servers.docker_registry(self.tree, self.directory, both))
            if NGINX is not None:
                found[NGINX_] = enter(servers.nginx(self.tree, self.directory, both))
            found[BARE] = enter(servers.bare(self.directory, constants))
            for name in {DOCKER, NGINX_} - found.keys():
                say(f"left out, not installed: {name}")
            yield found

    def _file(self, path: str) -> Path:
        layout = self.tree / "repositories" / "app" / "_oci"
        if path != self.manifest:
            return layout / "blobs" / path.rpartition("/")[2].replace(":", "/")
        (tagged,) = json.loads((layout / "index.json").read_bytes())["manifests"]
        return layout / "blobs" / str(tagged["digest"]).replace(":", "/")

    def loads(self, target: Target) -> dict[str, Callable[[], float]]:
        """Return what is measured."""
        seconds, place = self.scale.seconds, self.directory
        return {
            GET: partial(loads.gets, target, [self.manifest], seconds, place),
            HEAD: partial(loads.heads, target, self.manifest, seconds),
            SMALL: partial(loads.gets, target, [self.small], seconds, place),
            LARGE: partial(loads.large, target, self.large, 2 * seconds),
            STORM: lambda: loads.gets(target, self.image, seconds, place, CLIENTS) / len(self.image),
        }


def run(bench: Bench) -> tuple[Rates, int]:
    """Measure everything in turn; return the rates, and the most memory of podbridge's worker in bytes."""
    rates: Rates = {}
    with bench.servers() as found:
        for _ in range(bench.scale.rounds):
            for load in (GET, HEAD, SMALL, LARGE, STORM):
                for name, target in found.items():
                    if name == BARE and load in (LARGE, STORM):
                        continue
                    rate = loads.measure(target, bench.loads(target)[load])
                    rates.setdefault((load, name), []).append(rate)
        return rates, max(map(peak_bytes, children(found[PODBRIDGE].pid)))


def best(rates: list[Rate]) -> float:
    """Return the highest rate by processor time: what disturbs only ever slows down."""
    return max(rate.cpu_second for rate in rates)


def missed(rates: Rates, memory: int) -> list[str]:
    """Name the floors that were missed; a rival that did not run is one."""
    lines = []
    for load, rival, floor in FLOORS:
        if (load, rival) not in rates:
            lines.append(f"{load}: {rival} did not run")
        elif (ratio := best(rates[load, PODBRIDGE]) / best(rates[load, rival])) < floor:
            lines.append(f"{load}: {ratio:.2f} times {rival}, not {floor}")
    return lines + ([f"a worker held {memory / 1e6:.0f} MB, not {MEMORY / 1e6:.0f}"] if memory > MEMORY else [])


def say_rates(rates: Rates, memory: int) -> None:
    """Print the table."""
    header = ("", "a second", "a CPU second", "podbridge is")
    rows = []
    for (load, name), found in rates.items():
        rows += [(f"{load}:", "", "", "")] if name == PODBRIDGE else []
        wall = statistics.median(rate.second for rate in found)
        ratio = best(rates[load, PODBRIDGE]) / best(found)
        rows.append((f"  {name}", f"{wall:,.0f}", f"{best(found):,.0f}", f"{ratio:.2f} x"))
    say_table(header, rows)
    say(f"most memory of podbridge's worker: {memory / 1e6:.0f} MB")


def main() -> int:
    """Run, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, and no floors")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if missing := loads.missing():
        say(f"left out, not installed: {' '.join(missing)}")
        return 0
    os.sched_setaffinity(0, {loads.last_core()})
    scale = Scale(1, 1, 50_000_000) if arguments.quick else Scale(arguments.rounds, 3, 500_000_000)
    with scratch(Path("/var/tmp")) as directory:
        directory.chmod(0o755)
        machine = facts(directory)
        say_facts(machine)
        rates, memory = run(Bench.make(directory, scale))
    say_rates(rates, memory)
    figures = {
        f"{load}, {name}": [[rate.second, rate.cpu_second] for rate in found] for (load, name), found in rates.items()
    }
    write(arguments.json, {"machine": machine, "rates": figures, "memory": memory})
    if arguments.quick:
        return 0
    lines = missed(rates, memory)
    say_missed(lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
