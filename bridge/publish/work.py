"""What needs an export: a queue that every pass replaces, the tasks that empty it, and what becomes of each target."""

import asyncio
import logging
from collections.abc import Callable

from bridge.changes import Action, Change, Trigger
from bridge.conditions import Kind
from bridge.errors import BridgeError, DeniedError, ImageUnknownError, PodmanError, TreeError
from bridge.fence import Fence
from bridge.oci import Reference
from bridge.plan import Image, Source, Target, differs
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
        self._leaving: set[Source] = set()
        self._left: set[Source] = set()
        self._asked: dict[Reference, Try] = {}
        self._fence = Fence()

    def replace(self, queue: tuple[Target, ...]) -> None:
        """Have this done, and nothing else that waits."""
        self.queue = queue
        self._queued.set()

    def drop(self, reference: Reference) -> None:
        """Have nothing done for a reference; an export that is under way ends, and is not shown."""
        self.queue = tuple(target for target in self.queue if target.reference != reference)
        self._asked.pop(reference, None)
        self.failures.forget(reference)

    def begin(self) -> None:
        """Begin a pass: what has left the store is in no listing from now on."""
        self._left |= self._leaving
        self._leaving.clear()

    def take_note(self, images: tuple[Image, ...], wanted: Wanted) -> None:
        """Remember what a pass found in the store, and what it wants of it; other gates are asked anew."""
        self.images, self.wanted = images, wanted
        self._left &= {image.source for image in images}
        if self._gates.look():
            self.failures.forget_denials()

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

    async def ask(self, target: Target) -> bool:
        """Publish what somebody asks for by hand, in place of what was asked for the same reference before.

        Return False where that fails, or a gate denies it.
        """
        work = Try(target, Trigger.REQUEST, self.failures.attempts(target) + 1, by_hand=True)
        self._asked[target.reference] = work
        try:
            return await self._carry_out(work)
        finally:
            if self._asked.get(target.reference) is work:
                del self._asked[target.reference]

    def is_asked(self, reference: Reference) -> bool:
        """Say whether what somebody asked for is under way."""
        return reference in self._asked

    async def _carry_out(self, work: Try) -> bool:
        """Ask the gates, export where the tree lacks the image, and show it. Return False where that fails."""
        try:
            with self._fence.around(_called(work.target)):
                await self._publish(work)
        except DeniedError as error:
            self._deny(work, error)
            return False
        except (BridgeError, OSError) as error:
            await self._explain(work, error)
            return False
        finally:
            self.queue = tuple(item for item in self.queue if item != work.target)
            self._settled()
        return True

    async def show_known(self, target: Target) -> bool:
        """Show what the tree holds already and no gate guards. Return False where more has to be done.

        Call it in the writer's turn. A gate takes its time, and is no part of a pass.
        """
        work = self._try(target)
        try:
            with self._fence.around(_called(target)):
                known = await self._parts.exporter.known(target.image)
                if known is None or self._gates.guard(target):
                    return False
                await self._writer.show(work, known)
                self.failures.forget(target.reference)
        except (BridgeError, OSError) as error:
            await self._explain(work, error)
        return True

    def _try(self, target: Target) -> Try:
        return Try(target, self.trigger, self.failures.attempts(target) + 1)

    async def _publish(self, work: Try) -> None:
        """Try once, and once more wherever a gate denies it that was to be asked again meanwhile."""
        while True:
            era = self.failures.era
            try:
                await self._attempt(work)
            except DeniedError:
                if era == self.failures.era:
                    raise
            else:
                return

    async def _attempt(self, work: Try) -> None:
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
                await self._carry_out(self._try(target))
            finally:
                self._busy.discard(target.image.source)

    async def _show_wanted(self, work: Try, exported: Exported) -> None:
        async with self._writer.turn:
            if not self._is_wanted(work):
                return
            if work.by_hand or differs(work.target, self._parts.tree.publication(work.target.reference)):
                await self._writer.show(work, exported)  # a pass may have queued it anew, under another name too
            self.failures.forget(work.target.reference)

    def _is_wanted(self, work: Try) -> bool:
        target = work.target
        if self._parts.tree.holds_out(target.reference):
            return False  # since it was queued: what is asked for by hand was released before
        if work.by_hand and self._asked.get(target.reference) is not work:
            return False  # it was withdrawn since, or something else was asked for
        if not work.by_hand and self._is_taken(target.reference):
            return False  # since it was queued
        if target.requested:
            return self._is_present(target.image.id)
        now = self.wanted.targets.get(target.reference)
        return now is not None and now.image.source == target.image.source

    def _is_taken(self, reference: Reference) -> bool:
        """Say whether a reference shows, by hand, an image of the store: no rule takes that back."""
        shown = self._parts.tree.publication(reference)
        return shown is not None and shown.requested and self._is_present(shown.source.image_id)

    def _is_present(self, image_id: str) -> bool:
        return any(image.id == image_id for image in self.images)

    async def _explain(self, work: Try, error: Exception) -> None:
        """Note a failure, unless nobody wants the target any more, or its image has left the store meanwhile.

        Then the next pass settles it. An image that a pass still lists which began after that is one that podman
        cannot find, and has failed.
        """
        image = work.target.image
        if await self._is_gone(image) and image.source not in self._left:
            self._leaving.add(image.source)
            log.info("image left the store before it was published image=%s", image.id[:12])
            self._poke("image left the store", Trigger.RESYNC)
            return
        if not self._is_wanted(work):
            log.info("failed, and not wanted any more reference=%s error=%r", work.target.reference, words(error))
            return
        if isinstance(error, OSError | TreeError):
            self._parts.conditions.deny(Kind.TREE_WRITABLE, "WriteFailed", words(error))
        if isinstance(error, ImageUnknownError):
            error = PodmanError(
                f"{error}: podman.command and podman.socket look at different stores; set podman.export: rest"
            )
        failure = self.failures.add(work.target, error)
        if not failure.is_final:
            asyncio.get_running_loop().call_at(failure.due, self._poke, "retry", Trigger.RETRY)
        self._tell(Action.FAILED, work, failure)

    async def _is_gone(self, image: Image) -> bool:
        """Return True if podman says that the image is not in its store."""
        try:
            with self._fence.around(f"image {image.id[:12]}"):
                return not await self._parts.podman.exists(image)
        except (BridgeError, OSError):
            return False

    def _deny(self, work: Try, error: DeniedError) -> None:
        if self._is_wanted(work):
            self._tell(Action.DENIED, work, self.failures.deny(work.target, error))

    def _tell(self, action: Action, work: Try, failure: Failure) -> None:
        reference, image = work.target.reference, work.target.image
        shown = self._parts.tree.publication(reference)
        self._parts.changes.tell(
            Change(
                action, reference, shown, shown, image, message=failure.message, attempts=failure.attempts,
                repeats=failure.repeats, hook=failure.denied_by, permanent=failure.permanent, trigger=work.trigger,
            )
        )  # fmt: skip


def _called(target: Target) -> str:
    return f"image {target.image.id[:12]} as {target.reference}"
