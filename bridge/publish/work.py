"""What needs an export: a queue that every pass replaces, the tasks that empty it, and what becomes of each target."""

import asyncio
import logging
from collections.abc import Callable

from bridge.changes import Action, Change, Trigger
from bridge.conditions import Kind
from bridge.errors import BridgeError, DeniedError, ImageUnknownError, PodmanError, TreeError
from bridge.oci import Reference
from bridge.plan import Image, Source, Target
from bridge.policy import Wanted
from bridge.publish.export import SIDE_BY_SIDE, Exported
from bridge.publish.failures import Failure, Failures, words
from bridge.publish.gates import Gates, Try
from bridge.publish.parts import Parts
from bridge.publish.writer import TreeWriter

log = logging.getLogger(__name__)

Poke = Callable[[str, Trigger], None]


class Work:
    """Publishes targets, and remembers why some could not be.

    `queue` is what waits or is under way. `images` and `wanted` are what the last pass found, and `trigger`
    is why it looked; a target that no pass wants any more when its export ends is not shown. `poke` asks
    for a pass, `settled` is called when a target is done with.
    """

    def __init__(self, parts: Parts, writer: TreeWriter, poke: Poke, settled: Callable[[], None]) -> None:
        self.failures = Failures()
        self.images: tuple[Image, ...] = ()
        self.wanted = Wanted()
        self.queue: tuple[Target, ...] = ()
        self.trigger = Trigger.RESYNC
        self._gates = Gates(parts)
        self._parts = parts
        self._writer = writer
        self._poke = poke
        self._settled = settled
        self._queued = asyncio.Event()
        self._busy: set[Source] = set()
        self._left: set[Source] = set()

    def replace(self, queue: tuple[Target, ...]) -> None:
        """Have this done, and nothing else that waits; what was denied meanwhile is not asked about again."""
        self.queue = tuple(target for target in queue if not self.failures.denies(target))
        self._queued.set()

    def drop(self, reference: Reference) -> None:
        """Have nothing done for a reference; an export that is under way ends, and is not shown."""
        self.queue = tuple(target for target in self.queue if target.reference != reference)
        self.failures.forget(reference)

    def take_note(self, images: tuple[Image, ...], wanted: Wanted) -> None:
        """Remember what a pass found in the store, and what it wants of it; other gates are asked anew."""
        self.images, self.wanted = images, wanted
        self._left &= {image.source for image in images}
        if self._gates.look():
            self.failures.forget_denials()

    def guards(self, target: Target) -> bool:
        """Say whether a gate has to be asked: that takes its time, and is no part of a pass."""
        return self._gates.guard(target)

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

    async def publish(self, target: Target, trigger: Trigger | None = None) -> bool:
        """Ask the gates, export where the tree lacks the image, and show it. Return False where that fails."""
        work = self._try(target, trigger)
        try:
            await self._publish(work)
        except DeniedError as error:
            self._deny(work, error)
            return False
        except (BridgeError, OSError) as error:
            await self._explain(work, error)
            return False
        finally:
            self.queue = tuple(item for item in self.queue if item != target)
            self._settled()
        return True

    async def show(self, target: Target, known: Exported) -> None:
        """Show what the tree holds already and no gate guards. Call it in the writer's turn."""
        work = self._try(target)
        try:
            await self._writer.show(work, known)
            self.failures.forget(target.reference)
        except (BridgeError, OSError) as error:
            await self._explain(work, error)

    def _try(self, target: Target, trigger: Trigger | None = None) -> Try:
        return Try(target, trigger or self.trigger, self.failures.attempts(target) + 1)

    async def _publish(self, work: Try) -> None:
        await self._gates.before_export(work)
        failed = (failure.target.image.source for failure in self.failures if not failure.denied_by)
        self._parts.exporter.failed = frozenset(failed)
        async with self._parts.exporter.export(work.target.image, self.images) as exported:
            await self._gates.before_showing(work, exported)
            await self._show_wanted(work, exported)

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

    async def _show_wanted(self, work: Try, exported: Exported) -> None:
        async with self._writer.turn:
            if self._is_wanted(work.target):
                await self._writer.show(work, exported)
                self.failures.forget(work.target.reference)

    def _is_wanted(self, target: Target) -> bool:
        if self._parts.tree.holds_out(target.reference):
            return False  # since it was queued: what is asked for by hand was released before
        now = self.wanted.targets.get(target.reference)
        return target.requested or (now is not None and now.image.source == target.image.source)

    async def _explain(self, work: Try, error: Exception) -> None:
        """Note a failure, unless the image has left the store meanwhile: then the next pass settles it.

        An image that such a pass still lists is one that podman cannot find, and has failed.
        """
        image = work.target.image
        try:
            gone = not await self._parts.podman.exists(image)
        except PodmanError:
            gone = False
        if gone and image.source not in self._left:
            self._left.add(image.source)
            log.info("image left the store before it was published image=%s", image.id[:12])
            self._poke("image left the store", Trigger.RESYNC)
            return
        if isinstance(error, OSError | TreeError):
            self._parts.conditions.deny(Kind.TREE_WRITABLE, "WriteFailed", words(error))
        if isinstance(error, ImageUnknownError):
            error = PodmanError(
                f"{error}: podman.command and podman.socket look at different stores; set podman.export: rest"
            )
        failure = self.failures.add(work.target, error)
        asyncio.get_running_loop().call_at(failure.due, self._poke, "retry", Trigger.RETRY)
        self._tell(Action.FAILED, work, failure)

    def _deny(self, work: Try, error: DeniedError) -> None:
        if self._is_wanted(work.target):
            self._tell(Action.DENIED, work, self.failures.deny(work.target, error))

    def _tell(self, action: Action, work: Try, failure: Failure) -> None:
        reference, image = work.target.reference, work.target.image
        shown = self._parts.tree.publication(reference)
        self._parts.changes.tell(
            Change(
                action, reference, shown, shown, image, message=failure.message, attempts=failure.attempts,
                hook=failure.denied_by, trigger=work.trigger,
            )
        )  # fmt: skip
