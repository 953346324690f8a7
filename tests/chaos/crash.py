"""Crash points: a run is killed before each of its calls, and each call fails once with each error that it can return.

    python -m tests.chaos --only crash

After each: what is served is whole and what was acknowledged is served; the exit status tells; the next pass gives the
tree of an undisturbed run, in which `verify` finds nothing and nothing is left over.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.tree.contents import shown
from tests.chaos import ground
from tests.chaos.ground import SCENARIOS, Scenario
from tests.chaos.shim import Call, Shim

ERRORS = {
    "open": ("EIO", "ENOSPC", "EMFILE", "EROFS", "EINTR"),
    "open-read": ("EIO", "EMFILE", "EINTR"),
    "write": ("EIO", "ENOSPC", "EINTR"),
    "fsync": ("EIO", "ENOSPC", "EROFS", "EINTR"),
    "link": ("EIO", "ENOSPC", "EMLINK", "EROFS"),
    "rename": ("EIO", "ENOSPC", "EMLINK", "EROFS"),
    "symlink": ("EIO", "ENOSPC", "EROFS"),
    "mkdir": ("EIO", "ENOSPC", "EMLINK", "EROFS"),
    "unlink": ("EIO", "EROFS"),
    "rmdir": ("EIO", "EROFS"),
    "chmod": ("EIO", "EROFS"),
    "truncate": ("EIO", "EROFS", "EINTR"),
}
"""What each call can return."""

READING = frozenset({"open-read", "fsync"})
"""Calls before which a kill leaves the same tree as before the next one: SIGKILL loses nothing that was written."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: its exit status, and the words of each thing that it did."""

    status: int
    results: list[str]
    shown: list[str] | None


class Ground:
    """A place for trees in memory, with a program that does things to the one at `tree` over the shim."""

    def __init__(self, directory: Path, process: "subprocess.Popen[str]", shim: Shim) -> None:
        self.directory = directory
        self.tree = directory / "t"
        self.shim = shim
        self._process = process

    def run(self, words: tuple[str, ...], tree: Path | None = None) -> Outcome:
        """Do things to the tree, or to another one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"tree": str(tree or self.tree), "words": words}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        told = answer["results"]
        shown = [item["shown"] for item in told if isinstance(item, dict)]
        results = [item for item in told if isinstance(item, str)]
        outcome = Outcome(answer["status"], results, shown[-1] if shown else None)
        assert outcome.status in (0, 1, -9), outcome.results[-1]
        return outcome


@contextmanager
def grounds(*, data: bool = False) -> Iterator[Ground]:
    """Have a ground while the block runs."""
    with ground.place() as directory:
        shim = Shim(directory, f"{directory}/t*")
        more = {"CHAOS_DATA": "1"} if data else {}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.acts"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2], env=os.environ | shim.environment | more,
        )  # fmt: skip
        with process:
            try:
                yield Ground(directory, process, shim)
            finally:
                process.kill()


@dataclass(slots=True)
class Crash:
    """All crash points of one scenario."""

    name: str
    at: Ground
    counts: Counter[str]

    @property
    def scenario(self) -> Scenario:
        """What is done."""
        return SCENARIOS[self.name]

    def prepare(self) -> tuple[list[Call], dict[str, str]]:
        """Run it undisturbed; return its calls, and the picture of the tree after a pass."""
        self.scenario.build(self.kept)
        self.fresh()
        self.at.shim.clear()
        outcome = self.at.run(self.scenario.words)
        assert outcome.status == 0, outcome.results
        calls = [call for call in self.at.shim.calls() if call.name not in ("done", "bytes")]
        ground.converge(self.at.tree, self.scenario.after)
        return calls, ground.picture(self.at.tree)

    @property
    def kept(self) -> Path:
        """The tree as it is before."""
        return self.at.directory / "kept" / self.name

    def fresh(self) -> None:
        """Put the tree in its place."""
        self.kept.mkdir(parents=True, exist_ok=True)
        ground.copy(self.kept, self.at.tree)

    def all(self, dice: random.Random, share: float, every: int) -> None:
        """Try each kill, and of the errors of each call the given share, at the least one; or one call of `every`."""
        calls, undisturbed = self.prepare()
        for number, call in list(enumerate(calls, 1))[dice.randrange(every) :: every]:
            errors = ERRORS[call.name]
            chosen = dice.sample(errors, max(1, round(share * len(errors))))
            for action in (*(("KILL",) if call.name not in READING else ()), *chosen):
                self.point(number, call, action, undisturbed)

    def point(self, number: int, call: Call, action: str, undisturbed: dict[str, str]) -> None:
        """Try one, and raise AssertionError with what repeats it if something does not hold."""
        self.fresh()
        self.at.shim.clear()
        self.at.shim.fail("*", "*", action, first=number)
        try:
            outcome = self.at.run(self.scenario.words)
            self.judge(outcome, action)
            ground.check_mended(self.at.tree, self.scenario, undisturbed)
        except BaseException as error:
            paths = " ".join(path.removeprefix(str(self.at.tree)) for path in call.paths)
            error.add_note(f"scenario {self.name}, {action} at call {number}: {call.name} {paths}")
            raise
        self.counts[f"{'kills' if action == 'KILL' else action} at {call.name}"] += 1

    def judge(self, outcome: Outcome, action: str) -> None:
        """Ask of the tree and of the exit status what must hold after this run."""
        is_killed = action == "KILL"
        results = ground.acknowledged(outcome.results)
        assert (outcome.status == -9) == is_killed
        if not is_killed:
            assert outcome.status == int(not all(results))
            disk = sorted(map(str, shown(self.at.tree).publications))
            assert outcome.shown in (None, disk), f"memory has {outcome.shown}, the disk {disk}"
        ground.check(self.at.tree, self.scenario, self.scenario.allowed(results, is_cut=is_killed))


def run(seed: int, *, share: float, every: int = 1, names: tuple[str, ...] = tuple(SCENARIOS)) -> Counter[str]:
    """Try every crash point of the scenarios, or one of `every`, with a share of the errors."""
    counts: Counter[str] = Counter()
    dice = random.Random(seed)
    with grounds() as at:
        for name in names:
            Crash(name, at, counts).all(dice, share, every)
    return counts
