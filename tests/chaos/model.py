"""A model of podman and the tree, with which random stores, rules, passes, crashes, faults and sweeps must agree.

    python -m tests.chaos --only model

A pass is `podbridge sync`, in a fork, on the podman double. When one has ended without a crash, the tree shows what the
model wants, and one more changes nothing.
"""

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from bridge.tree.encodings import encode
from bridge.tree.publisher import Tree
from bridge.tree.verify import verify
from tests.chaos import ground
from tests.double.store import Double
from tests.faults.test_kill import syncing
from tests.faults.world import World

NAMES = ("a:1", "a:2", "b:1", "deep/er/c:1", "deep/er/c:2")
CHANGES = 120
"""Changes of the tree in a pass, more or less: a crash comes before one of them, or not at all."""

FAULTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("save", "fail", {"words": "layer not known"}),
    ("save", "corrupt", {"layer": 0}),
    ("save", "two entries", {}),
    ("listing", "fail", {"words": "database is locked"}),
    ("listing", "cut", {"bytes": 20}),
)

_Result = TypeVar("_Result")


class Rig:
    """A double, a tree, and a fork server of `sync`, with a loop in which they live."""

    def __init__(self, world: World, counts: Counter[str]) -> None:
        self.world = world
        self.counts = counts
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._sync: Callable[[int], Awaitable[tuple[int, int]]]

    def do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Wait for something."""
        return self._runner.run(work)

    async def start(self) -> None:
        """Have podman and the fork server."""
        await self._stack.enter_async_context(self.world.podman())
        self._sync = await self._stack.enter_async_context(syncing(self.world))

    def sync(self, last: int = 0) -> int:
        """Run one pass, which dies before the given change of the tree; return its exit status."""

        async def once() -> int:
            return (await self._sync(last))[1]

        self.counts["passes" if not last else "passes to be killed"] += 1
        return self.do(once())

    def close(self) -> None:
        """End everything."""
        self.do(self._stack.aclose())
        self._runner.close()

    def clear(self) -> None:
        """Empty the store and the tree."""
        double = self.world.double
        for image in double.images():
            double.remove(image)
        for point in {point for point, _, _ in FAULTS}:
            double.faults.heal(point)
        shutil.rmtree(self.world.tree, ignore_errors=True)


@contextlib.contextmanager
def rigs(counts: Counter[str]) -> Iterator[Rig]:
    """Have a rig while the block runs."""
    with ground.place("/tmp") as directory:
        double = Double.create(directory / "d")
        settings = {"encodings": {"space": "0MB"}, "max_withdraw": "100%", "grace": "1h"}
        rig = Rig(World(directory, double, settings), counts)
        rig.do(rig.start())
        try:
            yield rig
        finally:
            rig.close()


class Model(RuleBasedStateMachine):
    """What podman has under each name, and which repositories a rule leaves out: that is all there is to know."""

    rig: Rig

    def __init__(self) -> None:
        super().__init__()
        self.has: dict[str, str] = {}
        self.skipped: set[str] = set()
        self.may_show: dict[str, set[str | None]] = {}

    @property
    def wanted(self) -> dict[str, str]:
        """What a pass shows."""
        return {name: image for name, image in self.has.items() if name.partition(":")[0] not in self.skipped}

    @initialize()
    def empty(self) -> None:
        """Begin with nothing."""
        self.rig.clear()
        self._follow_rules()

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 5))
    def build(self, name: str, number: int) -> None:
        """Build an image; a name that another has moves."""
        made = self.rig.world.double.build(f"localhost/{name}", "base", f"layer {number}")
        self.has[name] = made.id

    @rule(name=st.sampled_from(NAMES), other=st.sampled_from(NAMES))
    def tag(self, name: str, other: str) -> None:
        """Give an image one more name."""
        if name in self.has:
            self.rig.world.double.tag(self.has[name], f"localhost/{other}")
            self.has[other] = self.has[name]

    @rule(name=st.sampled_from(NAMES))
    def untag(self, name: str) -> None:
        """Take a name off."""
        self.rig.world.double.untag(f"localhost/{name}")
        self.has.pop(name, None)

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        """Remove an image with all its names."""
        gone = self.has.get(name)
        if gone is not None:
            self.rig.world.double.remove(gone)
            self.has = {other: image for other, image in self.has.items() if image != gone}

    @rule(repository=st.sampled_from(["a", "b", "deep/er/c"]))
    def change_rules(self, repository: str) -> None:
        """Leave a repository out, or take it in again."""
        self.skipped ^= {repository}
        self._follow_rules()

    @rule()
    def sync(self) -> None:
        """Run a pass, and another one, which must change nothing."""
        assert self.rig.sync() == 0
        assert self.rig.world.shown() == self.wanted
        before = self._everything()
        assert self.rig.sync() == 0
        assert self._everything() == before, "a second pass changes nothing"

    @rule(last=st.integers(1, CHANGES))
    def crash(self, last: int) -> None:
        """Have a pass killed: each reference shows what it did, or what it is to show."""
        before, wanted = self.rig.world.shown(), self.wanted
        assert self.rig.sync(last) in (0, -9)
        shown = self.rig.world.shown()
        for name in before.keys() | wanted.keys() | shown.keys():
            assert shown.get(name) in (before.get(name), wanted.get(name))
        ground.served(self.rig.world.tree)

    @rule(fault=st.sampled_from(FAULTS))
    def fail(self, fault: tuple[str, str, dict[str, Any]]) -> None:
        """Have podman fail once: the pass says so or makes up for it, and what is not new stays."""
        point, kind, details = fault
        before, wanted = self.rig.world.shown(), self.wanted
        self.rig.world.double.faults.add(point, kind, **details)
        status = self.rig.sync()
        self.rig.world.double.faults.heal(point)
        self.rig.counts[f"faults, {point} {kind}"] += 1
        shown = self.rig.world.shown()
        assert status in (0, 1)
        assert status == 1 or shown == wanted
        for name in before.keys() | wanted.keys() | shown.keys():
            assert shown.get(name) in (before.get(name), wanted.get(name))

    @rule(grace=st.sampled_from([-1.0, 3600.0]))
    def sweep(self, grace: float) -> None:
        """Sweep, and encode: nothing that is shown goes."""
        before = self.rig.world.shown()
        with Tree(self.rig.world.tree) as tree:
            tree.sweep(grace)
        encode(self.rig.world.tree, ground.SPACE)
        assert self.rig.world.shown() == before
        self.rig.counts["sweeps"] += 1

    def teardown(self) -> None:
        """In the end the tree is the store, and whole."""
        if self.rig.world.tree.exists():
            self.sync()
            assert [str(fault) for fault in verify(self.rig.world.tree)] == []
            assert self.rig.world.staged() == []
        self.rig.counts["stories"] += 1

    def _follow_rules(self) -> None:
        rules: list[dict[str, Any]] = [{"match": f"localhost/{name}:*", "skip": True} for name in sorted(self.skipped)]
        self.rig.world.settings["publish"] = [*rules, {"match": "localhost/*", "as": "{path}:{tag}"}]
        self.rig.world.configuration()

    def _everything(self) -> dict[str, object]:
        tree = self.rig.world.tree
        return {
            str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns)
            for part in ("repositories", "blobs")
            for path in (tree / part).rglob("*")
        }


def run(seed: int, *, stories: int, steps: int = 12) -> Counter[str]:
    """Tell so many stories of so many steps each."""
    counts: Counter[str] = Counter()
    with rigs(counts) as rig:
        machine = type("Model", (Model,), {"rig": rig})
        settings = hypothesis.settings(
            max_examples=stories, stateful_step_count=steps, deadline=None, database=None, derandomize=False,
            suppress_health_check=list(hypothesis.HealthCheck), print_blob=False,
        )  # fmt: skip
        run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=settings)
    return counts
