"""The tree's writing side for tasks: off the event loop, one write at a time, each change told."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import ParamSpec

from bridge.changes import Action, Change, Trigger
from bridge.conditions import Kind
from bridge.errors import BridgeError
from bridge.fence import Fence
from bridge.oci import Digest, Reference
from bridge.plan import Publication
from bridge.publish import threads
from bridge.publish.export import Exported
from bridge.publish.failures import words
from bridge.publish.gates import Try
from bridge.publish.parts import Parts
from bridge.tree.sweeping import Swept

_Words = ParamSpec("_Words")

log = logging.getLogger(__name__)


class TreeWriter:
    """Writes into one tree. Hold `turn` over what is decided and written as one; `shown` is what it shows now."""

    def __init__(self, parts: Parts) -> None:
        self.turn = asyncio.Lock()
        self.shown = parts.tree.shown
        self._tree = parts.tree
        self._conditions = parts.conditions
        self._changes = parts.changes
        self._fence = Fence()

    async def show(self, work: Try, exported: Exported) -> None:
        """Publish. Raises TreeError or OSError."""
        target = work.target
        previous = self._tree.publication(target.reference)
        publication = Publication(
            reference=target.reference,
            descriptor=exported.descriptor,
            source=target.image.source,
            fidelity=exported.fidelity,
            name=target.name,
            size=exported.size,
            published=int(time.time() * 1000) / 1000,  # as it is read back, should the write fail
            requested=target.requested,
            origins=target.image.digests,
            keep=target.keep,
        )
        change = Change(
            Action.PUBLISHED, target.reference, publication, previous, target.image, exported.seconds, exported.read,
            attempts=work.attempt, trigger=work.trigger,
        )  # fmt: skip
        try:
            await self._write(self._tree.publish, publication)
        except (asyncio.CancelledError, Exception):
            if self._tree.publication(target.reference) == publication:
                self._say_published(change)  # it is shown: a stop, or what is derived, is no reason to keep that back
            raise
        self._say_published(change)

    def _say_published(self, change: Change) -> None:
        publication = change.publication
        assert publication is not None  # noqa: S101 - of this action
        self._conditions.confirm(Kind.TREE_WRITABLE)
        log.info(
            "published reference=%s digest=%s fidelity=%s image=%s bytes=%d read=%d seconds=%.2f",
            publication.reference, publication.descriptor.digest, publication.fidelity,
            publication.source.image_id[:12], publication.size, change.read, change.seconds,
        )  # fmt: skip
        self._changes.tell(change)

    async def withdraw(self, reference: Reference, *, hold: bool = False) -> None:
        """Withdraw, because somebody asked for it. Raises TreeError or OSError."""
        shown = self._tree.publication(reference)
        try:
            await self._write(self._tree.withdraw, reference, hold=hold)
            log.info("withdrawn reference=%s held=%s", reference, hold)
        finally:
            if shown is not None and self._tree.publication(reference) is None:
                self._changes.tell(Change(Action.WITHDRAWN, reference, shown, shown, trigger=Trigger.REQUEST))

    async def release(self, reference: Reference) -> None:
        """Let a held reference be published again. Raises TreeError or OSError."""
        await self._write(self._tree.release, reference)

    async def withdraw_quietly(self, reference: Reference, trigger: Trigger) -> bool:
        """Withdraw; tell a failure as a condition and return False: the next pass tries again."""
        shown = self._tree.publication(reference)
        done = await self._quietly(self._tree.withdraw, reference, "withdrawn")
        if done or self._tree.publication(reference) is None:
            self._changes.tell(Change(Action.WITHDRAWN, reference, shown, shown, trigger=trigger))
        return done

    async def orphan_quietly(self, reference: Reference) -> bool:
        """Note that a publication is kept although its image has gone; a failure is told as above."""
        return await self._quietly(self._tree.orphan, reference, "kept, its image has left the store")

    async def derive_quietly(self) -> bool:
        """Make what is derived from indexes where a full disk left that undone; a failure is told as above."""
        if self._tree.is_derived:
            return True
        try:
            with self._fence.around("what is derived from indexes"):
                await threads.run(self._tree.derive)
        except (BridgeError, OSError) as error:
            self._conditions.deny(Kind.TREE_WRITABLE, "WriteFailed", words(error))
            return False
        return True

    async def discard(self, digests: frozenset[Digest]) -> int:
        """Take out damaged blobs and what needs them; return how many manifests. Raises TreeError or OSError."""
        try:
            return await threads.run(self._tree.discard, digests)
        finally:
            self.shown = self._tree.shown

    async def sweep(self, grace: float, *, dry_run: bool = False) -> Swept:
        """Remove what has been superseded for longer than `grace` seconds. Raises TreeError or OSError."""
        try:
            with self._fence.around("a sweep"):
                swept = await threads.run(self._tree.sweep, grace, dry_run=dry_run)
        finally:
            self.shown = self._tree.shown
        if not dry_run and (swept.manifests or swept.blobs):
            log.info("swept manifests=%d blobs=%d bytes=%d", swept.manifests, swept.blobs, swept.freed)
        return swept

    async def _write(self, write: Callable[_Words, None], *args: _Words.args, **kwargs: _Words.kwargs) -> None:
        """Write, and look at what is shown then, also where the write failed half-way or its task was cancelled."""
        try:
            await threads.run(write, *args, **kwargs)
        finally:
            self.shown = self._tree.shown

    async def _quietly(self, write: Callable[[Reference], None], reference: Reference, done: str) -> bool:
        try:
            with self._fence.around(f"reference {reference}"):
                await self._write(write, reference)
        except (BridgeError, OSError) as error:
            self._conditions.deny(Kind.TREE_WRITABLE, "WriteFailed", f"{reference}: {words(error)}")
            return False
        self._conditions.confirm(Kind.TREE_WRITABLE)
        log.info("%s reference=%s", done, reference)
        return True
