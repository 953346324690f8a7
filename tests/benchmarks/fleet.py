"""Publish a fleet with podbridge, and in the same run, in turn, in the ways that people use today.

    python -m tests.benchmarks.fleet [--rounds N] [--all] [--json FILE] [--directory DIR] [--quick]

Run it as root on a calm machine with podman, skopeo, docker-registry, 2 GB of software in /usr, and 15 GB
free below DIR. Per round and rival: cold (nothing published yet), again (nothing changed), changed (one image
of the fleet rebuilt). Ratios are of medians, rival over podbridge: 4.0 means that podbridge needs a quarter.
Then the peak memory of `podbridge serve` while it publishes the same fleet from cold.
It takes about 5 minutes on 2 cores; with --all, which lets also the slow rivals do every phase, 10.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from tests.end_to_end.programs import scratch
from tests.end_to_end.stores import Store

from .images import FULL, QUICK, Fleet
from .machine import facts
from .meter import children, peak_bytes
from .report import say, say_facts, say_missed, write
from .results import PHASES, Results, say_results
from .rivals import RIVALS, Rival, installed
from .service import Podbridge, Puller


def run_round(fleet: Fleet, turn: list[tuple[Rival, Sequence[str]]], results: Results) -> None:
    """Let each rival publish the fleet, in its phases, into a directory that is removed afterwards."""
    for rival, phases in turn:
        with scratch(fleet.store.directory / "out") as directory, rival.begin(fleet, directory) as update:
            for phase in phases:
                with fleet.changed() if phase == "changed" else nullcontext():
                    cost = update()
                results.costs.setdefault((rival.name, phase), []).append(cost)
                say(f"  {rival.name:<40} {phase:<8} {cost.wall:7.2f} s wall {cost.cpu:7.2f} s cpu")


def measure_memory(fleet: Fleet, results: Results) -> None:
    """Let `podbridge serve` publish the fleet from cold; note the peak of it and of its podman service."""
    with scratch(fleet.store.directory / "out") as directory:
        bridge = Podbridge.configure(fleet.store, directory / "podbridge")
        with bridge.serve() as process:
            puller = Puller(bridge.port)
            for name, image in fleet.ids.items():
                puller.wait_for(name, "1", image)
            puller.close()
            results.memory["podbridge serve"] = peak_bytes(process.pid)
            for child in children(process.pid):
                results.memory["podman system service"] = peak_bytes(child)


def compete(store: Store, arguments: argparse.Namespace) -> Results:
    """Build the fleet and measure everything; another rival begins in each round."""
    size = QUICK if arguments.quick else FULL
    rivals, results = installed(RIVALS), Results()
    say(f"building {size}")
    fleet = Fleet.build(store, size)
    for number in range(1 if arguments.quick else arguments.rounds):
        say(f"round {number + 1}")
        start = number % len(rivals)
        turn = [(rival, phases(rival, number, arguments)) for rival in rivals[start:] + rivals[:start]]
        run_round(fleet, turn, results)
    measure_memory(fleet, results)
    say()
    return results


def phases(rival: Rival, number: int, arguments: argparse.Namespace) -> Sequence[str]:
    """Return what a rival has to do in the round of this number."""
    if not rival.slow or arguments.quick:
        return PHASES
    if number > 0:
        return ()
    return PHASES if arguments.all else PHASES[:1]


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet")
    parser.add_argument("--rounds", type=int, default=3, help="how often each rival publishes (default 3)")
    parser.add_argument("--all", action="store_true", help="every phase also of the slow rivals")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into FILE")
    directory = Path(tempfile.gettempdir())
    parser.add_argument("--directory", type=Path, default=directory, metavar="DIR", help="work below DIR")
    parser.add_argument("--quick", action="store_true", help="a tiny fleet, one round, and no judgement")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run the benchmark; 1 when a floor is missed, 2 for a wrong command line."""
    arguments = parse(words)
    machine = facts(arguments.directory)
    say_facts(machine)
    with scratch(arguments.directory) as directory:
        results = compete(Store(directory), arguments)
    say_results(results)
    missed = results.missed()
    write(arguments.json, {"machine": machine, **results.figures(), "missed": missed})
    if arguments.quick:
        return 0
    say_missed(missed)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
