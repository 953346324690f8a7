"""Reconciling: podman's store is looked at, and the tree is made to show it.

A pass lists the store once, does at once what needs no export, and queues the rest for the worker,
which exports one image at a time. Both decide from what is, never from what an event said, so any
passes in any order end in the same tree.
"""

import asyncio
import contextlib
import logging
import math
import time
from dataclasses import dataclass

from bridge.conditions import Conditions, Kind
from bridge.errors import BridgeError, PodmanError, TreeError
from bridge.oci import Reference
from bridge.plan import Image, Publication, Source, Target, make_plan
from bridge.podman.client import Podman
from bridge.policy import Policy, Wanted
from bridge.publish.export import Exported, Exporter
from bridge.publish.failures import Failures, retry_delay, words
from bridge.tree.publisher import Swept, Tree

log = logging.getLogger(__name__)

DEBOUNCE = 0.02
"""Seconds between a poke and its pass at the least: one change of the store rings several times."""
LONGEST_BLIND = 30.0
"""Seconds between two attempts to list a store that does not answer, at the most."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long, in seconds, until a full look without a poke, and until superseded blobs are swept."""

    resync: float = 300
    grace: float = 3600


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reconciler works with."""

    podman: Podman
    exporter: Exporter
    tree: Tree
    policy: Policy
    conditions: Conditions
    timing: Timing = Timing()


class Reconciler:
    """Keeps one tree in step with one store.

    `ready` is set when the first pass, exports included, is through; `published` at every publication,
    and whoever waits for it clears it. `images`, `wanted`, `queue`,
    `shown` and `failures` are what the last pass left, for others to read.
    """

    def __init__(self, parts: Parts) -> None:
        self.failures = Failures()
        self.images: tuple[Image, ...] = ()
        self.wanted = Wanted()
        self.queue: tuple[Target, ...] = ()
        self.last_look: float | None = None
        self.ready = asyncio.Event()
        self.published = asyncio.Event()
        self.parts = parts
        self._remember()
        self._poked = asyncio.Event()
        self._queued = asyncio.Event()
        self._looking = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._exporting = asyncio.Lock()
        self._failed_looks = 0
        self._failed_withdrawals = 0
        self._listing = 0.0
        self._left: set[Source] = set()

    def poke(self, reason: str) -> None:
        """Ask for a pass. Cheap, and safe at any time: pokes during a pass make one more pass."""
        log.debug("poked reason=%s", reason)
        self._poked.set()

    async def run(self) -> None:
        """Reconcile for ever: at every poke, at every retry, and after the resync time at the latest."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            swept = -math.inf
            while True:
                self._poked.clear()
                await self.look()
                if time.monotonic() - swept > self.parts.timing.resync:
                    await self._sweep()
                    swept = time.monotonic()
                await self._wait()

    async def once(self) -> None:
        """Do one whole pass, exports included. Raises PodmanError where the store cannot be listed."""
        if not await self.look():
            raise PodmanError(self.parts.conditions[Kind.PODMAN_REACHABLE].message)
        for target in self.queue:
            await self.publish(target)
        await self._sweep()

    async def look(self) -> bool:
        """List the store and act on the difference. Return False, and change nothing, where that fails.

        Two looks never overlap: a second caller waits for the first.
        """
        async with self._looking:
            return await self._look()

    async def _look(self) -> bool:
        begun = time.monotonic()
        conditions = self.parts.conditions
        try:
            images = await self.parts.podman.images()
        except PodmanError as error:
            self._failed_looks += 1
            conditions.deny(Kind.PODMAN_REACHABLE, type(error).__name__.removesuffix("Error"), str(error))
            return False
        self._failed_looks = 0
        self._listing = time.monotonic() - begun
        conditions.confirm(Kind.PODMAN_REACHABLE)
        async with self._writing:
            await self._apply(images)
        self.last_look = time.time()
        self._settle()
        return True

    async def publish(self, target: Target) -> bool:
        """Export the image of `target` where the tree lacks it, and show it. Return False where that fails.

        A target that no pass wants any more when its export ends is not shown.
        """
        try:
            async with self._exporting:
                known = await self._find(target)
                if known is not None:
                    await self._show_wanted(target, known)
                else:
                    async with self.parts.exporter.export(target.image) as exported:
                        await self._show_wanted(target, exported)
        except (BridgeError, OSError) as error:
            await self._explain(target, error)
            return False
        finally:
            self.queue = tuple(item for item in self.queue if item.reference != target.reference)
            self._remember()
            self._settle()
        return True

    async def withdraw(self, reference: Reference, *, hold: bool = False) -> None:
        """Take a reference out of the tree; raise TreeError or OSError where that fails."""
        async with self._writing:
            await asyncio.to_thread(self.parts.tree.withdraw, reference, hold=hold)
            self._remember()
        log.info("withdrawn reference=%s held=%s", reference, hold)

    async def release(self, reference: Reference) -> None:
        """Let a held reference be published again."""
        async with self._writing:
            await asyncio.to_thread(self.parts.tree.release, reference)
            self._remember()
        self.failures.forget(reference)

    async def sweep(self, *, dry_run: bool = False) -> Swept:
        """Remove from the tree what has been superseded for longer than the grace period."""
        async with self._writing:
            return await asyncio.to_thread(self.parts.tree.sweep, self.parts.timing.grace, dry_run=dry_run)

    async def _apply(self, images: tuple[Image, ...]) -> None:
        tree = self.parts.tree
        wanted = self.parts.policy.wanted(images)
        shown = tree.shown
        plan = make_plan(wanted.targets, shown.publications, images, shown.held)
        self._tell(wanted)
        self.images, self.wanted = images, wanted
        self.failures.keep(plan.publish)
        self._left &= {image.source for image in images}
        queue = []
        for target in plan.publish:
            if self.failures.waits(target):
                continue
            known = tree.find(target.image.source)
            if known is None:
                queue.append(target)
            else:
                await self._quickly(target, known)
        withdrawn = [await self._drop(reference) for reference in plan.withdraw]
        self._failed_withdrawals = 0 if all(withdrawn) else self._failed_withdrawals + 1
        self.queue = tuple(queue)
        self._remember()
        self._queued.set()

    async def _quickly(self, target: Target, known: Publication) -> None:
        try:
            await self._show(target, Exported(known.descriptor, known.fidelity, known.size))
        except (BridgeError, OSError) as error:
            await self._explain(target, error)

    async def _drop(self, reference: Reference) -> bool:
        try:
            await asyncio.to_thread(self.parts.tree.withdraw, reference)
        except (BridgeError, OSError) as error:
            self.parts.conditions.deny(Kind.TREE_WRITABLE, "WithdrawFailed", f"{reference}: {words(error)}")
            return False
        self.parts.conditions.confirm(Kind.TREE_WRITABLE)
        log.info("withdrawn reference=%s", reference)
        return True

    async def _sweep(self) -> None:
        """Sweep in passing: what fails here is tried again at the next resync."""
        try:
            await self.sweep()
        except (BridgeError, OSError) as error:
            self.parts.conditions.deny(Kind.TREE_WRITABLE, "SweepFailed", words(error))

    async def _find(self, target: Target) -> Exported | None:
        async with self._writing:
            known = self.parts.tree.find(target.image.source)
        return None if known is None else Exported(known.descriptor, known.fidelity, known.size)

    async def _show_wanted(self, target: Target, exported: Exported) -> None:
        async with self._writing:
            now = self.wanted.targets.get(target.reference)
            if target.requested or (now is not None and now.image.source == target.image.source):
                await self._show(target, exported)

    async def _show(self, target: Target, exported: Exported) -> None:
        publication = Publication(
            target.reference,
            exported.descriptor,
            target.image.source,
            exported.fidelity,
            target.name,
            exported.size,
            time.time(),
            target.requested,
        )
        await asyncio.to_thread(self.parts.tree.publish, publication)
        self.published.set()
        self.parts.conditions.confirm(Kind.TREE_WRITABLE)
        self.failures.forget(target.reference)
        log.info(
            "published reference=%s digest=%s fidelity=%s image=%s bytes=%d",
            target.reference, exported.descriptor.digest, exported.fidelity, target.image.id[:12], exported.size,
        )  # fmt: skip

    async def _explain(self, target: Target, error: Exception) -> None:
        """Note a failure, unless the image has left the store meanwhile: then the next pass settles it.

        An image that such a pass still lists is one that podman cannot find, and has failed.
        """
        try:
            gone = not await self.parts.podman.exists(target.image.id)
        except PodmanError:
            gone = False
        if gone and target.image.source not in self._left:
            self._left.add(target.image.source)
            log.info("image left the store before it was published image=%s", target.image.id[:12])
            self.poke("image left the store")
            return
        if isinstance(error, OSError | TreeError):
            self.parts.conditions.deny(Kind.TREE_WRITABLE, "WriteFailed", words(error))
        failure = self.failures.add(target, error)
        asyncio.get_running_loop().call_at(failure.due, self.poke, "retry")

    async def _work(self) -> None:
        """Publish what is queued, one after the other. A pass may replace the queue at any time."""
        while True:
            await self._queued.wait()
            if self.queue:
                await self.publish(self.queue[0])
            else:
                self._queued.clear()

    async def _wait(self) -> None:
        """Wait for a poke, which a retry is too, or for the time of the next look, then for the ringing to end."""
        times = [self.parts.timing.resync]
        if self._failed_looks:
            times.append(min(retry_delay(self._failed_looks), LONGEST_BLIND))
        if self._failed_withdrawals:
            times.append(retry_delay(self._failed_withdrawals))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(times)):
                await self._poked.wait()
        await asyncio.sleep(max(DEBOUNCE, min(self._listing / 2, 1.0)))

    def _settle(self) -> None:
        """Say whether the tree shows the store now."""
        conditions = self.parts.conditions
        if self.last_look is None or self.queue:
            return
        if failing := len(self.failures):
            conditions.deny(Kind.SYNCED, "Failing", f"{failing} cannot be published; see `podbridge status`")
        else:
            conditions.confirm(Kind.SYNCED, message=f"{len(self.shown.publications)} published")
        conditions.confirm(Kind.READY)
        self.ready.set()

    def _remember(self) -> None:
        self.shown = self.parts.tree.shown

    def _tell(self, wanted: Wanted) -> None:
        """Warn of each conflict and each name that cannot be published, once as long as it stands."""
        for conflict in set(wanted.conflicts) - set(self.wanted.conflicts):
            log.warning(
                "two names for one reference, the first is published reference=%s published=%s left_out=%s",
                conflict.reference, conflict.winner, conflict.loser,
            )  # fmt: skip
        for decision in set(wanted.refused) - set(self.wanted.refused):
            log.warning("name cannot be published name=%s reason=%r", decision.name, decision.reason)
