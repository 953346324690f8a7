"""Keep trying to break the tree, and say what was tried and how often.

    python -m tests.chaos --minutes 30 --seed 7
    python -m tests.chaos --only power,model
    python -m tests.chaos --report

Everything that is decided at random comes from the seed, which is printed: the same seed tries the same things, as far
as one can say that of processes that run side by side. A failure ends the run with what repeats it. `--report` prints
the table of the last run that went through.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos import crash, disks, ground, model, power, world
from tests.chaos.storm import Storm

CHECKOUT = Path(__file__).parents[2]
REPORT = CHECKOUT / ".tox" / "chaos.json"
"""What the last run tried."""

Campaign = Callable[[int, float], Counter[str]]
"""Tries with a seed for about so many seconds, or its least unit, and counts."""


def storm(seed: int, seconds: float) -> Counter[str]:
    """Rage on the real podman."""
    with ground.place("/tmp") as directory:
        raging = Storm(directory, seed)
        raging.run(seconds)
        return raging.counts


def fuzz(seed: int, seconds: float) -> Counter[str]:
    """Fuzz what podbridge reads of others."""
    more = {"PODBRIDGE_FUZZ_SEED": str(seed)}
    command = [sys.executable, "-m", "tests.fuzz", str(int(seconds)), "-q"]
    done = subprocess.run(command, cwd=CHECKOUT, env=os.environ | more, check=False, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    return Counter({"seconds": int(seconds)})


CAMPAIGNS: dict[str, tuple[float, Campaign]] = {
    "crash": (0.30, lambda seed, _seconds: crash.run(seed, share=0.5)),
    "power": (0.20, lambda seed, _seconds: power.run(seed, rounds=4)),
    "disks": (0.10, lambda seed, _seconds: disks.run(seed, cuts=4)),
    "world": (0.15, lambda _seed, _seconds: world.run(world.possible(long=True))),
    "model": (0.10, lambda seed, _seconds: model.run(seed, stories=10, steps=20)),
    "storm": (0.10, storm),
    "fuzz": (0.05, fuzz),
}
"""The share of the time that each gets, and what it does: one round, which has its own length, or a span of time."""

SPANS = frozenset({"storm", "fuzz"})


def campaign(name: str, seed: int, seconds: float) -> Counter[str]:
    """Repeat a campaign, with one seed after the other, until its time is over; at the least once."""
    _, once = CAMPAIGNS[name]
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    while True:
        print(f"{name}: seed {seed}", flush=True)
        try:
            counts += once(seed, seconds)
        except BaseException as error:
            error.add_note(f"repeat it: python -m tests.chaos --only {name} --seed {seed}")
            raise
        counts["rounds"] += 1
        seed += 1
        if name in SPANS or time.monotonic() - begun >= seconds:
            return counts


def table(report: dict[str, object]) -> str:
    """Return a report as a table for docs/reliability.md."""
    rows = ["| tried | how often |", "|---|---:|"]
    counts = report["counts"]
    assert isinstance(counts, dict)
    for name, found in counts.items():
        rows += [f"| {name}: {what} | {count:,} |" for what, count in sorted(found.items())]
    return "\n".join(rows)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30, help="about so long, and every campaign once at the least")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where what is random begins")
    parser.add_argument("--only", default=",".join(CAMPAIGNS), help="campaigns, with commas between them: %(default)s")
    parser.add_argument("--report", action="store_true", help="print the table of the last run, and do nothing")
    return parser.parse_args()


def main() -> int:
    """Run the campaigns one after the other; return 0 if nothing broke."""
    options = arguments()
    if options.report:
        print(table(json.loads(REPORT.read_text())))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    logging.disable(logging.CRITICAL)  # what is broken says so, a thousand times
    names = options.only.split(",")
    whole = sum(CAMPAIGNS[name][0] for name in names)
    print(f"chaos: seed {options.seed}, {options.minutes:g} minutes: {', '.join(names)}", flush=True)
    begun, counts = time.monotonic(), {}
    for name in names:
        counts[name] = dict(campaign(name, options.seed, options.minutes * 60 * CAMPAIGNS[name][0] / whole))
        print(json.dumps({name: counts[name]}, indent=1, sort_keys=True), flush=True)
    report = {"seed": options.seed, "minutes": round((time.monotonic() - begun) / 60, 1), "counts": counts}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report))
    print(table(report))
    print(f"chaos: seed {options.seed}: nothing broke in {report['minutes']} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
