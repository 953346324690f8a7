"""Measure how long the command line takes to answer: its help, and the status of a running service.

    python -m tests.benchmarks.cli [--json FILE] [--directory DIR] [--quick]

Each is the wall time of a whole process, from its start to its end; the median counts. Needs podman and buildah.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.end_to_end.programs import scratch
from tests.end_to_end.stores import Store

from .machine import facts
from .report import say, say_facts, say_missed, say_table, spread, write
from .service import Podbridge

SAMPLES, QUICK_SAMPLES = 30, 5
FLOORS = {"--help": 0.15, "status": 0.4}
"""Seconds at the median."""


def main() -> int:
    """Run the benchmark; return 1 where a floor was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="work below this directory")
    parser.add_argument("--quick", action="store_true", help="a few samples, to see that it runs")
    asked = parser.parse_args()
    described = facts(asked.directory)
    say_facts(described)
    with scratch(asked.directory) as directory:
        bridge = Podbridge.configure(Store(directory), directory / "podbridge")
        with bridge.serve():
            times = {verb: measure(bridge, verb, QUICK_SAMPLES if asked.quick else SAMPLES) for verb in FLOORS}
    say_table(("podbridge", "seconds", "floor"), [(verb, spread(times[verb]), f"{FLOORS[verb]}") for verb in FLOORS])
    missed = [
        f"podbridge {verb}: {statistics.median(times[verb]):.2f} s, not {floor} s"
        for verb, floor in FLOORS.items()
        if statistics.median(times[verb]) > floor
    ]
    say_missed(missed)
    write(asked.json, {"facts": described, "seconds": times, "missed": missed})
    return 1 if missed and not asked.quick else 0


def measure(bridge: Podbridge, verb: str, samples: int) -> list[float]:
    """Return the seconds that each of so many calls takes; the first, which may compile, does not count."""
    program = Path(sys.executable).with_name("podbridge")
    times = []
    for _ in range(samples + 1):
        begun = time.perf_counter()
        command = [str(program), "--config", str(bridge.configuration), verb]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # 1 where something is not in order
        times.append(time.perf_counter() - begun)
    return times[1:]


if __name__ == "__main__":
    say()
    sys.exit(main())
