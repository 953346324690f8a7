"""What needs an export: a queue that every pass replaces, the tasks that empty it, and what becomes of each target."""

import asyncio
import logging
from collections.abc import Callable

from bridge.changes import Action, Change
from bridge.conditions import Kind
from bridge.errors import BridgeError, ImageUnknownError, PodmanError, TreeError
from bridge.plan import Image, Source, Target
from bridge.policy import Wanted
from bridge.publish.export import SIDE_BY_SIDE, Exported
from bridge.publish.failures import Failures, words
from bridge.publish.parts import Parts
from bridge.publish.writer import TreeWriter

log = logging.getLogger(__name__)


class Work:
    """Publishes targets, and remembers why some could not be.

    `queue` is what waits or is under way. `images` and `wanted` are what the last pass found; a target
    that no pass wants any more when its export ends is not shown. `poke` asks for a pass, `settled` is
    called when a target is done with.
    """

    def __init__(
        self, parts: Parts, writer: TreeWriter, poke: Callable[[str], None], settled: Callable[[], None]
    ) -> None:
        self.failures = Failures()
        self.images: tuple[Image, ...] = ()
        self.wanted = Wanted()
        self.queue: tuple[Target, ...] = ()
        self._parts = parts
        self._writer = writer
        self._poke = poke
        self._settled = settled
        self._queued = asyncio.Event()
        self._busy: set[Source] = set()
        self._left: set[Source] = set()

    def replace(self, queue: tuple[Target, ...]) -> None:
        """Have this done, and nothing else that waits."""
        self.queue = queue
        self._queued.set()

    def take_note(self, images: tuple[Image, ...], wanted: Wanted) -> None:
        """Remember what a pass found in the store, and what it wants of it."""
        self.images, self.wanted = images, wanted
        self._left &= {image.source for image in images}

    async def run(self) -> None:
        """Publish what is queued, for ever, `SIDE_BY_SIDE` targets at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SIDE_BY_SIDE):
                group.create_task(self._work())

    async def once(self) -> None:
        """Publish what is queued now."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SIDE_BY_SIDE):
                group.create_task(self._drain())

    async def publish(self, target: Target) -> bool:
        """Export the image of `target` where the tree lacks it, and show it. Return False where that fails."""
        try:
            known = self._writer.known(target)
            if known is not None:
                await self._show_wanted(target, known)
            else:
                self._parts.exporter.failed = frozenset(failure.target.image.source for failure in self.failures)
                async with self._parts.exporter.export(target.image, self.images) as exported:
                    await self._show_wanted(target, exported)
        except (BridgeError, OSError) as error:
            await self._explain(target, error)
            return False
        finally:
            self.queue = tuple(item for item in self.queue if item != target)
            self._settled()
        return True

    async def show(self, target: Target, known: Exported) -> None:
        """Show what the tree holds already. Call it in the writer's turn."""
        try:
            await self._writer.show(target, known)
            self.failures.forget(target.reference)
        except (BridgeError, OSError) as error:
            await self._explain(target, error)

    async def _work(self) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            await self._drain()

    async def _drain(self) -> None:
        """Publish what is queued, one after the other, and leave alone what another task is at."""
        while target := next((item for item in self.queue if item.image.source not in self._busy), None):
            self._busy.add(target.image.source)
            try:
                await self.publish(target)
            finally:
                self._busy.discard(target.image.source)

    async def _show_wanted(self, target: Target, exported: Exported) -> None:
        async with self._writer.turn:
            now = self.wanted.targets.get(target.reference)
            if target.requested or (now is not None and now.image.source == target.image.source):
                await self._writer.show(target, exported)
                self.failures.forget(target.reference)

    async def _explain(self, target: Target, error: Exception) -> None:
        """Note a failure, unless the image has left the store meanwhile: then the next pass settles it.

        An image that such a pass still lists is one that podman cannot find, and has failed.
        """
        try:
            gone = not await self._parts.podman.exists(target.image)
        except PodmanError:
            gone = False
        if gone and target.image.source not in self._left:
            self._left.add(target.image.source)
            log.info("image left the store before it was published image=%s", target.image.id[:12])
            self._poke("image left the store")
            return
        if isinstance(error, OSError | TreeError):
            self._parts.conditions.deny(Kind.TREE_WRITABLE, "WriteFailed", words(error))
        if isinstance(error, ImageUnknownError):
            error = PodmanError(
                f"{error}: podman.command and podman.socket look at different stores; set podman.export: rest"
            )
        self._fail(target, error)

    def _fail(self, target: Target, error: Exception) -> None:
        failure = self.failures.add(target, error)
        asyncio.get_running_loop().call_at(failure.due, self._poke, "retry")
        shown = self._parts.tree.publication(target.reference)
        self._parts.changes.tell(
            Change(
                Action.FAILED, target.reference, shown, shown, target.image,
                message=failure.message, attempts=failure.attempts,
            )
        )  # fmt: skip
