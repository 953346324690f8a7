"""Real file systems on loop devices that are cut off: what a journal keeps, and what delayed allocation loses.

    python -m tests.chaos --only disks

A run is killed before one of its calls, and what lies on the device then is copied at once, as a power cut leaves it:
what is only in the page cache is lost. Before some of the cuts another file is synced, which commits the journal: then
names are on the disk, and bytes that were not synced are not. The copy is mounted, which replays the journal, and the
tree on it is judged as after any crash.
"""

import contextlib
import filecmp
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import ground
from tests.chaos.crash import Crash, Ground, Outcome, grounds


@dataclass(frozen=True, slots=True)
class Kind:
    """A file system: how it is made and mounted, and its size in MiB."""

    make: tuple[str, ...]
    size: int
    options: str = "loop"


KINDS = {
    "ext4": Kind(("mkfs.ext4", "-q"), 16),
    "ext4 noauto_da_alloc": Kind(("mkfs.ext4", "-q"), 16, "loop,noauto_da_alloc"),
    # The mount that was cut may live on in a namespace of another test, and its copy has the same UUID.
    "xfs": Kind(("mkfs.xfs", "-q"), 300, "loop,nouuid"),
    "btrfs": Kind(("mkfs.btrfs", "-q"), 120),
}

NAMES = ("publish", "move", "withdraw", "sweep", "leave")
"""Scenarios that are tried: those that write what a reader sees."""


@contextlib.contextmanager
def mounted(image: Path, mount: Path, kind: Kind) -> Iterator[bool]:
    """Mount an image while the block runs; False if this kernel cannot."""
    mount.mkdir(exist_ok=True)
    command = ["mount", "-o", kind.options, str(image), str(mount)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(mount)], check=True)


def why_not(name: str) -> str:
    """Say why a kind of file system cannot be tried here; empty if it can."""
    kind = KINDS[name]
    if os.geteuid():
        return "mounting takes root"
    if shutil.which(kind.make[0]) is None:
        return f"{kind.make[0]} is not installed"
    with ground.place() as directory:
        image = directory / "image"
        _make(image, kind)
        with mounted(image, directory / "m", kind) as works:
            return "" if works else "this kernel cannot mount it on a loop device"


def _make(image: Path, kind: Kind) -> None:
    image.unlink(missing_ok=True)
    subprocess.run(["truncate", f"--size={kind.size}M", str(image)], check=True)
    subprocess.run([*kind.make, str(image)], check=True, capture_output=True)


@dataclass(slots=True)
class Cutting:
    """One kind of file system, on which a tree is."""

    name: str
    at: Ground
    counts: Counter[str]

    @property
    def kind(self) -> Kind:
        """How it is made."""
        return KINDS[self.name]

    def all(self, names: tuple[str, ...], cuts: int, dice: random.Random) -> None:
        """Cut each of the scenarios off so many times."""
        image = self.at.directory / "image"
        for name in names:
            crash = Crash(name, self.at, self.counts)
            calls, undisturbed = crash.prepare()
            shutil.rmtree(self.at.tree)
            for _ in range(cuts):
                number, is_committed = dice.randrange(1, len(calls) + 1), dice.random() < 0.6
                _make(image, self.kind)
                try:
                    outcome = self._cut(crash, image, number, is_committed)
                    self._judge(crash, image, outcome, undisturbed)
                except BaseException as error:
                    error.add_note(f"{self.name}, scenario {name}, cut before call {number}, journal {is_committed}")
                    raise
                self.counts[f"cuts of {self.name}"] += 1

    def _cut(self, crash: Crash, image: Path, number: int, is_committed: bool) -> Outcome:
        mount = self.at.tree
        with mounted(image, mount, self.kind) as works:
            assert works
            ground.copy(crash.kept, mount / "tree")
            os.sync()
            self.at.shim.clear()
            self.at.shim.fail("*", "*", "KILL", first=number)
            outcome = self.at.run(crash.scenario.words, mount / "tree")
            if is_committed:
                _commit(mount / "other")
            _copy_at_rest(image, Path(f"{image}.cut"))
        return outcome

    def _judge(self, crash: Crash, image: Path, outcome: Outcome, undisturbed: dict[str, str]) -> None:
        with mounted(Path(f"{image}.cut"), self.at.directory / "after", self.kind) as works:
            assert works, "it cannot be mounted after the cut"
            tree = self.at.directory / "after" / "tree"
            results = ground.acknowledged(outcome.results)
            ground.check(tree, crash.scenario, crash.scenario.allowed(results, is_cut=True))
            ground.check_mended(tree, crash.scenario, undisturbed)


def _copy_at_rest(image: Path, copy: Path) -> None:
    """Copy a device as it is at one moment: again, if the kernel wrote to it meanwhile. A torn copy is no power cut."""
    for _ in range(10):
        subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
        if filecmp.cmp(image, copy, shallow=False):
            return
    msg = f"{image} does not come to rest"
    raise AssertionError(msg)


def _commit(path: Path) -> None:
    """Sync another file, and with it the journal."""
    with path.open("w") as file:
        file.write("x")
        file.flush()
        os.fsync(file.fileno())


def run(seed: int, *, cuts: int, kinds: tuple[str, ...] = tuple(KINDS), names: tuple[str, ...] = NAMES) -> Counter[str]:
    """Cut each kind of file system off in each scenario so many times; what cannot be tried is said."""
    counts: Counter[str] = Counter()
    dice = random.Random(seed)
    for kind in kinds:
        reason = why_not(kind)
        if reason:
            print(f"disks: left out: {kind}: {reason}", flush=True)
            continue
        with grounds() as at:
            Cutting(kind, at, counts).all(names, cuts, dice)
    return counts
