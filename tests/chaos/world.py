"""What the world does to a service: a table of troubles, each on a podman double and a service of its own.

    python -m tests.chaos --only world

Each trouble comes after the service has published an image, and before another one is built. Then the service must
show both, and serve every byte of them; its conditions must be well; it must end in order, with no traceback in its
log; and `verify` must find nothing.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bridge.tree.verify import verify
from tests.chaos import ground
from tests.chaos.shim import Shim
from tests.double import server
from tests.double.gates import eventually
from tests.double.store import Double
from tests.faults.world import World

QUEUE = 16_384
"""Events that the kernel queues for one watcher, where nothing else is set: then it tells of an overflow."""

OLD = "f6771d4"
"""A commit of a version that users have, and that may run on the same tree."""

CHECKOUT = Path(__file__).parents[2]


@dataclass(slots=True)
class Scene:
    """A service that runs, on a world. `images` is what it is to show; `log` is what it has said."""

    world: World
    shim: Shim
    environment: dict[str, str]
    podman: contextlib.AsyncExitStack
    images: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        """The file with what the service has said."""
        return self.world.directory / "log"

    @property
    def pid(self) -> int:
        """The service."""
        assert self.process is not None
        return self.process.pid

    async def start(self, checkout: Path = CHECKOUT) -> None:
        """Start a service."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", "serve", f"--config={self.world.configuration()}"),
                cwd=checkout, env=self.environment | {"PYTHONPATH": str(checkout)}, stdout=log, stderr=log,
            )  # fmt: skip

    async def stop(self) -> None:
        """End the service in order."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        assert await asyncio.wait_for(self.process.wait(), 60) == 0, self.said()

    def said(self) -> str:
        """Return the end of the log."""
        return self.log.read_text()[-2000:]

    def build(self, name: str, content: str) -> None:
        """Have an image more."""
        self.images[name] = self.world.double.build(f"localhost/{name}", content, size=100_000).id

    async def shows(self) -> None:
        """Wait until all images are shown and served, and all is well."""
        await self.world.shows(self.images)
        for name, image in self.images.items():
            repository, _, tag = name.partition(":")
            assert await self.world.pull(repository, tag) == image
        await eventually(self._is_well, what="every condition is well")

    async def _is_well(self) -> bool:
        return all(one["status"] is True for one in (await self.world.status())["conditions"])

    def children(self, word: str) -> list[int]:
        """Return the processes of the service that have a word among theirs."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if word in words and parent == self.pid:
                    found.append(int(entry.name))
        return found


async def clock(scene: Scene, seconds: int) -> None:
    """Have the wall clock jump: what was superseded stays for those who pull it."""
    old = scene.images["app:1"]
    scene.build("app:1", "moved")
    await scene.shows()
    layout = scene.world.tree / "repositories/app/_oci/blobs/sha256"
    blobs = set(layout.iterdir())
    (scene.world.directory / "clock").write_text(str(seconds))
    await scene.world.control_do("POST", "/resync")
    await scene.world.settled()
    assert blobs <= set(layout.iterdir()), f"of {old} something was swept"


async def overflow(scene: Scene) -> None:
    """Ring the doorbell so often while the service sleeps that the kernel drops events, and with them the last."""
    scene.world.double.emits = False
    os.kill(scene.pid, signal.SIGSTOP)
    try:
        for _ in range(QUEUE // 2):
            scene.world.double.ring()
        scene.build("late:1", "rung in the overflow")
    finally:
        os.kill(scene.pid, signal.SIGCONT)
    await scene.shows()


async def descriptors(scene: Scene) -> None:
    """Let the service open nothing while an image comes."""
    soft, hard = resource.prlimit(scene.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, (3, hard))
    scene.build("late:1", "when nothing could be opened")
    await asyncio.sleep(1)  # not a wait for anything: so long it lasts
    resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, (soft, hard))


def answering(*faults: tuple[str, str, dict[str, object]]) -> "Trouble":
    """Have podman answer wrongly, a few times."""

    async def act(scene: Scene) -> None:
        for point, kind, details in faults:
            scene.world.double.faults.add(point, kind, times=2, **details)

    return act


def lying(question: str, body: bytes, status: int = 200) -> "Trouble":
    """Have a question answered with something else."""

    async def act(scene: Scene) -> None:
        scene.world.double.faults.lie(question, body, status=status, times=2)

    return act


def silence(seconds: float) -> "Trouble":
    """Have podman say nothing for a while, in the middle of a pass."""

    async def act(scene: Scene) -> None:
        gate = scene.world.double.gate("silence")
        scene.world.double.faults.add("listing", "hold", gate=str(gate.path))
        scene.build("late:1", "in the silence")
        await gate.reached()
        assert await scene.world.pull("app", "1") == scene.images["app:1"]
        await asyncio.sleep(seconds)  # not a wait for anything: so long it lasts
        gate.open()

    return act


async def replaced(scene: Scene) -> None:
    """Put another service on podman's socket while the old one still has its connections."""
    second = scene.world.directory / "second"
    await scene.podman.enter_async_context(server.serving(scene.world.double, second))
    second.rename(scene.world.double.socket)


async def reset(scene: Scene) -> None:
    """Empty the store, as `podman system reset` does, with its directories."""
    shutil.rmtree(scene.world.double.doorbell.parent)
    for image in scene.world.double.images():
        with contextlib.suppress(FileNotFoundError):
            scene.world.double.rings = False
            scene.world.double.remove(image)
    scene.world.double.rings = True
    scene.world.double.doorbell.mkdir(parents=True)
    scene.images.clear()
    scene.world.double.ring()


def run_now(*words: str, given: bytes = b"") -> bytes:
    """Run a short command that must succeed, and return what it printed."""
    return subprocess.run(words, cwd=CHECKOUT, check=True, input=given, stdout=subprocess.PIPE).stdout


async def unmounted(scene: Scene) -> None:
    """Unmount the graph root, and mount it again."""
    graph = scene.world.double.doorbell.parent
    run_now("mount", "-t", "tmpfs", "podbridge-test", str(graph))
    try:
        scene.world.double.doorbell.mkdir()
        scene.build("late:1", "over another file system")
        await scene.shows()
    finally:
        run_now("umount", "--lazy", str(graph))


def ending(word: str, number: signal.Signals) -> "Trouble":
    """End, or stop, a process of the service: as the kernel does that has no memory left, or a debugger."""

    async def act(scene: Scene) -> None:
        await eventually(lambda: scene.children(word), what=f"a process with {word}")
        victims = scene.children(word)
        for victim in victims:
            os.kill(victim, number)
        await eventually(lambda: not set(victims) & set(scene.children(word)), what="it is replaced", within=90)

    return act


async def export_ends(scene: Scene) -> None:
    """End an export as the kernel does that has no memory left."""
    gate = scene.world.double.gate("export")
    scene.world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(gate.path))
    scene.build("late:1", "exported twice")
    await gate.reached()
    for victim in scene.children("image save"):
        os.kill(victim, signal.SIGKILL)


async def service_ends(scene: Scene) -> None:
    """End the service as the kernel does that has no memory left; it is started again."""
    assert scene.process is not None
    scene.process.kill()
    await scene.process.wait()
    await scene.start()


async def service_sleeps(scene: Scene) -> None:
    """Stop the service for a while, and change the store meanwhile."""
    os.kill(scene.pid, signal.SIGSTOP)
    scene.build("late:1", "while it slept")
    await asyncio.sleep(2)  # not a wait for anything: so long it lasts
    os.kill(scene.pid, signal.SIGCONT)


async def second_service(scene: Scene) -> None:
    """Start an old version on the tree beside the new one, then in its place, then the new one again."""
    old = scene.world.directory / "old"
    old.mkdir()
    run_now("tar", "-x", "-C", str(old), given=run_now("git", "archive", OLD, "bridge"))
    new = scene.process
    await scene.start(old)
    assert scene.process is not None
    assert await asyncio.wait_for(scene.process.wait(), 60) == 1, "two publishers on one tree"
    scene.process = new
    await scene.shows()
    for checkout in (old, CHECKOUT, old, CHECKOUT):
        await scene.stop()
        scene.build("app:1", f"moved before {len(scene.images)} {checkout.name}")
        scene.build(f"n{len(scene.images)}:1", f"for {checkout.name}")
        await scene.start(checkout)
        await scene.world.shows(scene.images)


Trouble = Callable[[Scene], Awaitable[None]]

WORKER = "bridge.registry.worker"

TROUBLES: dict[str, Trouble] = {
    "the clock jumps two hours ahead": lambda scene: clock(scene, 7200),
    "the clock jumps two hours back": lambda scene: clock(scene, -7200),
    "the clock jumps ten years ahead": lambda scene: clock(scene, 315_360_000),
    "inotify overflows": overflow,
    "nothing can be opened": descriptors,
    "podman answers 500": answering(("listing", "fail", {"words": "database is locked"})),
    "podman answers half a listing": answering(("listing", "cut", {})),
    "podman answers half a line of events": answering(("events", "lines", {"lines": ['{"status": "pu', "\udcff\x00"]})),
    "podman answers garbage": lying("listing", b"\xff\xfe garbage {"),
    "podman answers another type": lying("listing", b'{"cause": "none"}'),
    "podman answers nothing": lying("listing", b""),
    "podman's version is garbage": lying("version", b"\x00" * 100),
    "podman says nothing": silence(2),
    "podman's socket is replaced": replaced,
    "the store is reset": reset,
    "the graph root is mounted over and unmounted": unmounted,
    "a worker is killed": ending(WORKER, signal.SIGKILL),
    "a worker is stopped": ending(WORKER, signal.SIGSTOP),
    "an export is killed": export_ends,
    "the service is killed": service_ends,
    "the service is stopped for a while": service_sleeps,
    "an old version on the same tree": second_service,
}

LONG: dict[str, Trouble] = {"podman says nothing for a minute": silence(65)}
"""What takes longer than the short form may."""


@contextlib.asynccontextmanager
async def scenes() -> AsyncIterator[Scene]:
    """Have a service with one image while the block runs."""
    with ground.place("/tmp") as directory:
        world = World(directory, Double.create(directory / "d"), {"resync": "3s"})
        shim = Shim(directory, "nothing")
        environment = os.environ | shim.environment | {"CHAOS_CLOCK": str(directory / "clock")}
        environment["PATH"] = f"{world.double.root / 'bin'}:{environment['PATH']}"
        async with contextlib.AsyncExitStack() as podman:
            await podman.enter_async_context(world.podman())
            scene = Scene(world, shim, environment, podman)
            await scene.start()
            try:
                yield scene
            finally:
                if scene.process is not None and scene.process.returncode is None:
                    os.kill(scene.pid, signal.SIGCONT)
                    scene.process.kill()
                    await scene.process.wait()


async def suffer(name: str, trouble: Trouble) -> None:
    """Have one trouble come over a service, and ask of it what must hold after."""
    try:
        async with scenes() as scene:
            scene.build("app:1", "before")
            await scene.shows()
            await trouble(scene)
            scene.build("after:1", "after")
            await scene.shows()
            await scene.stop()
            assert "Traceback" not in scene.log.read_text(), scene.said()
            assert [str(fault) for fault in verify(scene.world.tree)] == []
            assert scene.world.staged() == []
    except BaseException as error:
        error.add_note(f"trouble: {name}")
        raise


async def _suffer_all(troubles: dict[str, Trouble], counts: Counter[str], side_by_side: int) -> None:
    few = asyncio.Semaphore(side_by_side)

    async def one(name: str, trouble: Trouble) -> None:
        async with few:
            await suffer(name, trouble)
        counts[name] += 1

    async with asyncio.TaskGroup() as group:
        for name, trouble in troubles.items():
            group.create_task(one(name, trouble))


def possible(names: "Callable[[str], bool]" = lambda _name: True, *, long: bool = False) -> dict[str, Trouble]:
    """Return the troubles that can be had here, and say which not."""
    troubles = {name: trouble for name, trouble in (TROUBLES | (LONG if long else {})).items() if names(name)}
    for name, why in _impossible().items():
        if troubles.pop(name, None):
            print(f"world: left out: {name}: {why}", flush=True)
    return troubles


def _impossible() -> dict[str, str]:
    found = {}
    if subprocess.run(["git", "cat-file", "-e", OLD], cwd=CHECKOUT, check=False, capture_output=True).returncode:
        found["an old version on the same tree"] = f"this checkout has no commit {OLD}"
    if os.geteuid():
        found["the graph root is mounted over and unmounted"] = "mounting takes root"
    return found


def run(troubles: dict[str, Trouble], *, side_by_side: int = 4) -> Counter[str]:
    """Have every trouble once, some at a time."""
    counts: Counter[str] = Counter()
    asyncio.run(_suffer_all(troubles, counts, side_by_side))
    return counts
