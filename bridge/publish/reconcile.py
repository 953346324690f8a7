"""Reconciling: podman's store is looked at, and the tree is made to show it.

A pass lists the store once, does at once what needs no export, and leaves the rest to the work. Both
decide from what is, never from what an event said, so any passes in any order end in the same tree.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
from collections import Counter

from bridge.changes import Trigger
from bridge.conditions import Kind
from bridge.errors import BridgeError, PodmanError, UndecidedError
from bridge.oci import Digest, Reference
from bridge.plan import Damage, Image, Listing, Plan, Shown, Target, is_mass_withdrawal, make_plan
from bridge.policy import Policy, Wanted
from bridge.publish import telling
from bridge.publish.failures import Failures, retry_delay, words
from bridge.publish.looking import Lookout
from bridge.publish.noticed import Noticed
from bridge.publish.parts import Bounds, Parts
from bridge.publish.work import Work
from bridge.publish.writer import TreeWriter
from bridge.tree.sweeping import Swept

log = logging.getLogger(__name__)

DEBOUNCE = 0.02
"""Seconds between a poke and its pass at the least: one change of the store rings several times."""
LONGEST_BLIND = 30.0
"""Seconds between two attempts to list a store that does not answer, at the most."""


class Reconciler:
    """Keeps one tree in step with one store.

    `ready` is set when the first pass, exports included, is through. `held_back` is what the last pass left, and
    `damage` what podman could not read; for others to read, as are `images`, `wanted`, `queue` and `failures`.
    `passes` counts them by what came of them: changed, unchanged, failed.
    """

    def __init__(self, parts: Parts) -> None:
        self.held_back: tuple[Reference, ...] = ()
        self.damage: tuple[Damage, ...] = ()
        self.last_look: float | None = None
        self.ready = asyncio.Event()
        self.parts = parts
        self.noticed = Noticed()
        self.passes: Counter[str] = Counter()
        self._lookout = Lookout(parts.podman, parts.exporter.transport)
        self._writer = TreeWriter(parts)
        self._work = Work(parts, self._writer, self.poke, self._settle)
        self._poked = asyncio.Event()
        self._trigger = Trigger.RESYNC
        self._looking = asyncio.Lock()
        self._failed_looks = 0
        self._failed_writes = 0
        self._damaged = False
        self._listing = 0.0

    @property
    def shown(self) -> Shown:
        """What the tree shows, as far as its writes are through."""
        return self._writer.shown

    @property
    def images(self) -> tuple[Image, ...]:
        """What the last pass found in the store."""
        return self._work.images

    @property
    def wanted(self) -> Wanted:
        """What the rules make of that."""
        return self._work.wanted

    @property
    def queue(self) -> tuple[Target, ...]:
        """What waits for its export, or is under way."""
        return self._work.queue

    @property
    def is_unwritten(self) -> bool:
        """Return True if the last pass could not write all that needs no export: withdrawals, and what is derived."""
        return self._failed_writes > 0

    @property
    def failures(self) -> Failures:
        """What could not be published."""
        return self._work.failures

    def poke(self, reason: str, trigger: Trigger = Trigger.RESYNC) -> None:
        """Ask for a pass. Cheap, and safe at any time: pokes during a pass make one more pass.

        Of several pokes the first that is more than the time for a pass is what triggered it.
        """
        log.debug("poked reason=%s trigger=%s", reason, trigger)
        if self._trigger is Trigger.RESYNC:
            self._trigger = trigger
        self.noticed.poke()
        self._poked.set()

    def follow(self, policy: Policy, bounds: Bounds) -> None:
        """Keep to other rules and bounds, from the pass on that this asks for."""
        self.parts = dataclasses.replace(self.parts, policy=policy, bounds=bounds)
        self.poke("rules changed")

    async def run(self) -> None:
        """Reconcile for ever: at every poke, at every retry, and after the resync time at the latest."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work.run())
            swept = -math.inf
            while True:
                self._poked.clear()
                trigger, self._trigger = self._trigger, Trigger.RESYNC
                await self._look_quietly(trigger)
                if time.monotonic() - swept > self.parts.bounds.resync:
                    await self._sweep_quietly()
                    swept = time.monotonic()
                await self._wait()

    async def once(self, *, prune: bool = False) -> None:
        """Do one whole pass, exports included. Raises PodmanError where the store cannot be listed."""
        if not await self.look(Trigger.REQUEST, prune=prune):
            raise PodmanError(self.parts.conditions[Kind.PODMAN_REACHABLE].message)
        await self._work.once()
        await self._sweep_quietly()

    async def look(self, trigger: Trigger = Trigger.REQUEST, *, prune: bool = False) -> bool:
        """List the store and act on the difference. Return False, and change nothing, where that fails.

        With `prune` also a mass withdrawal is let through. Two looks never overlap: a second caller
        waits for the first.
        """
        async with self._looking:
            return await self._look(trigger, prune=prune)

    async def _look(self, trigger: Trigger, *, prune: bool) -> bool:
        begun = time.monotonic()
        self.noticed.begin()
        self._work.begin()
        conditions = self.parts.conditions
        try:
            listing = await self._lookout.look(self.parts.tree.shown)
            self._listing = time.monotonic() - begun
            async with self._writer.turn:
                await self._apply(listing, trigger, prune=prune)
        except PodmanError as error:
            self._failed_looks += 1
            self.passes["failed"] += 1
            conditions.deny(Kind.PODMAN_REACHABLE, type(error).__name__.removesuffix("Error"), str(error))
            return False
        self._failed_looks = 0
        conditions.confirm(Kind.PODMAN_REACHABLE)
        self.last_look = time.time()
        self._settle()
        return True

    async def _look_quietly(self, trigger: Trigger) -> None:
        """Look; a pass that the machine has no means for, such as open files, has failed and is tried again soon."""
        try:
            await self.look(trigger)
        except OSError as error:
            self._failed_looks += 1
            self.passes["failed"] += 1
            self.parts.conditions.deny(Kind.SYNCED, "PassFailed", words(error))

    async def plan(self) -> Plan:
        """List the store and say what a pass would do. Raises PodmanError where it cannot be listed."""
        async with self._looking:
            return await self._lookout.plan(self.parts.policy, self.parts.tree.shown)

    async def publish(self, target: Target) -> bool:
        """Publish what somebody asked for. Return False where that fails, or a gate denies it."""
        return await self._work.ask(target)

    async def withdraw(self, reference: Reference, *, hold: bool = False) -> None:
        """Take a reference out of the tree, and show nothing that was asked for it before.

        Raises TreeError or OSError where that fails.
        """
        async with self._writer.turn:
            if hold or self.parts.tree.publication(reference) is not None or not self._work.is_asked(reference):
                await self._writer.withdraw(reference, hold=hold)
        self._work.drop(reference)
        self._settle()
        self.poke("withdrawn", Trigger.REQUEST)  # by hand it may have hidden what the rules have for it

    async def release(self, reference: Reference) -> None:
        """Let a held reference be published again."""
        async with self._writer.turn:
            await self._writer.release(reference)
        self.failures.forget(reference)

    async def sweep(self, *, dry_run: bool = False) -> Swept:
        """Remove from the tree what has been superseded for longer than the grace period."""
        async with self._writer.turn:
            return await self._writer.sweep(self.parts.bounds.grace, dry_run=dry_run)

    async def discard(self, digests: frozenset[Digest]) -> None:
        """Take damaged blobs out of the tree, with what needs them, and have that exported again.

        Raises TreeError or OSError where that fails.
        """
        named = ", ".join(sorted(map(str, digests)))
        message = f"the bytes of blob {named} are damaged; what needs it is published again"
        self.parts.conditions.deny(Kind.TREE_WHOLE, "Damaged", message)
        async with self._writer.turn:
            self._damaged = True
            lost = await self._writer.discard(digests)
        log.info("damaged blobs are out of the tree blobs=%d manifests=%d", len(digests), lost)
        self.poke("blobs were damaged", Trigger.RETRY)

    async def _sweep_quietly(self) -> None:
        shown = self.shown.publications
        try:
            await self._sweep()
        finally:
            if self.shown.publications != shown:
                self.poke("publications lost blobs", Trigger.RETRY)

    async def _sweep(self) -> None:
        try:
            await self.sweep()
        except UndecidedError as error:
            self.parts.conditions.deny(Kind.TREE_WHOLE, "IndexDamaged", words(error))
        except (BridgeError, OSError) as error:
            self.parts.conditions.deny(Kind.TREE_WRITABLE, "SweepFailed", words(error))
            return
        if all(failure.is_final for failure in self.failures) and not self._failed_writes:
            self.parts.conditions.confirm(Kind.TREE_WRITABLE)  # what could not be written is not to be any more

    def _say_whole(self) -> None:
        """Say whether the tree has lost anything that the store could not give back."""
        undecided = self.parts.tree.undecided
        if undecided:
            self.parts.conditions.deny(Kind.TREE_WHOLE, "IndexDamaged", "; ".join(undecided))
        elif not self._damaged:
            self.parts.conditions.confirm(Kind.TREE_WHOLE)

    async def _apply(self, listing: Listing, trigger: Trigger, *, prune: bool) -> None:
        """Act on the difference. Raises PodmanError before anything is changed."""
        images, shown = listing.images, self.parts.tree.shown
        wanted = self.parts.policy.wanted(images)
        self._damaged = False
        plan, spared = await self._lookout.spare(make_plan(wanted.targets, shown, images, time.time()), shown)
        self._note_damage((*listing.damage, *spared))
        self._work.trigger = trigger
        telling.warn(self.wanted, wanted)
        self.noticed.find(plan.publish)
        self.passes["changed" if plan else "unchanged"] += 1
        changed = images != self.images
        self._work.take_note(images, wanted)
        self.failures.keep(plan.publish)
        queue = await self._show_known(plan, changed=changed)
        written = [await self._writer.orphan_quietly(reference) for reference in plan.orphan]
        leaving = self._let_through(plan, shown, prune=prune)
        written += [await self._writer.withdraw_quietly(reference, self._work.trigger) for reference in leaving]
        written.append(await self._writer.derive_quietly())
        self._failed_writes = 0 if all(written) else self._failed_writes + 1
        self._work.replace(tuple(target for target in queue if self._is_due(target, changed=changed)))

    def _note_damage(self, damage: tuple[Damage, ...]) -> None:
        """Remember what podman cannot read, each image once."""
        now = tuple({one.image_id: one for one in reversed(damage)}.values())
        telling.damage(self.damage, now)
        self.damage = now

    def _is_due(self, target: Target, *, changed: bool) -> bool:
        """Say whether a target is to be tried now; a list may have failed for a member that has just come."""
        new_members = changed and target.image.is_list and not self.failures.is_final(target)
        return new_members or not self.failures.waits(target)

    async def _show_known(self, plan: Plan, *, changed: bool) -> tuple[Target, ...]:
        """Show what needs no export and no gate, and return the rest that is to be done now."""
        queue = []
        for target in plan.publish:
            if not self._is_due(target, changed=changed):
                continue
            if not await self._work.show_known(target):
                queue.append(target)
        return tuple(queue)

    def _let_through(self, plan: Plan, shown: Shown, *, prune: bool) -> tuple[Reference, ...]:
        """Return what a plan withdraws; nothing where that is a mass withdrawal that nobody asked for."""
        if prune or not is_mass_withdrawal(plan, shown, self.parts.bounds.max_withdraw):
            self.held_back = ()
            return plan.withdraw
        if not self.held_back:
            telling.mass_withdrawal(plan, shown)
        self.held_back = plan.withdraw
        return ()

    async def _wait(self) -> None:
        """Wait for a poke, which a retry is too, or for the time of the next look, then for the ringing to end."""
        times = [self.parts.bounds.resync]
        if self._failed_looks:
            times.append(min(retry_delay(self._failed_looks), LONGEST_BLIND))
        if self._failed_writes:
            times.append(retry_delay(self._failed_writes))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(times)):
                await self._poked.wait()
        await asyncio.sleep(max(DEBOUNCE, min(self._listing / 2, 1.0)))

    def _settle(self) -> None:
        """Say whether the tree shows the store now."""
        conditions = self.parts.conditions
        if self.last_look is None or self.queue:
            return
        if self.held_back:
            message = f"{len(self.held_back)} withdrawals are held back; `podbridge resync --prune` lets them through"
            conditions.deny(Kind.SYNCED, "MassWithdrawal", message)
        elif self.damage:
            count = len(self.damage)
            words = f"podman cannot read {count} of its images, the others are published"
            conditions.deny(Kind.SYNCED, "StoreDamaged", f"{words}: {'; '.join(map(str, self.damage))}")
        elif failing := len(self.failures) - self.failures.denied:
            given_up = self.failures.permanent
            more = f", {given_up} of them until the image changes" if given_up else ""
            conditions.deny(Kind.SYNCED, "Failing", f"{failing} cannot be published{more}")
        else:
            denied = f", {self.failures.denied} denied" if self.failures.denied else ""
            conditions.confirm(Kind.SYNCED, message=f"{len(self.shown.publications)} published{denied}")
            self._say_whole()
        conditions.confirm(Kind.READY)
        self.ready.set()
