"""What operators asked to be published: each a task of the service, which goes on when who asked has left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bridge.changes import Action, Change
from bridge.fence import Fence
from bridge.oci import Reference
from bridge.plan import Target
from bridge.publish.failures import Failure
from bridge.publish.reconcile import Reconciler


class Requests:
    """The publications under way that somebody asked for, and why the last of a reference failed.

    No pass tries again what no rule wants, so its failure is kept here until the reference is published,
    or asked for again.
    """

    def __init__(self, reconciler: Reconciler, group: asyncio.TaskGroup) -> None:
        self._reconciler = reconciler
        self._group = group
        self._under_way: dict[Reference, tuple[Target, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: dict[Reference, Failure] = {}
        self._fence = Fence()

    @property
    def waiting(self) -> tuple[Target, ...]:
        """What is under way."""
        return tuple(target for target, _ in self._under_way.values())

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What failed and is not tried again by itself."""
        return tuple(self._failed.values())

    def start(self, target: Target) -> asyncio.Task[None]:
        """Begin to publish `target`, or join in where that is under way.

        Another image that is under way for the same reference is not shown any more.
        """
        before = self._under_way.get(target.reference)
        if before is not None and before[0].image.source == target.image.source:
            return before[1]
        self.forget(target.reference)
        task = self._group.create_task(self._publish(target))
        self._under_way[target.reference] = target, task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def drop(self, reference: Reference) -> None:
        """Have nobody join in what is under way for a reference: it was withdrawn."""
        self._under_way.pop(reference, None)

    def failure(self, target: Target) -> str:
        """Say why `target` was not published; nothing where no failure is known."""
        known = (*self._reconciler.failures, *self._failed.values())
        return next((failure.message for failure in known if failure.target == target), "")

    def forget(self, reference: Reference) -> bool:
        """Drop what is known of a failure, and say whether there was one."""
        return self._failed.pop(reference, None) is not None

    def hear(self, change: Change) -> None:
        """Take note of a change."""
        if change.action is Action.PUBLISHED:
            self.forget(change.reference)

    def cancel(self) -> None:
        """Stop everything under way."""
        for task in self._tasks:
            task.cancel()

    async def _publish(self, target: Target) -> None:
        try:
            with self._fence.within(f"the request for {target.reference}"):
                await self._reconciler.publish(target)
            if target.requested:
                self._failed |= {one.target.reference: one for one in self._reconciler.failures if one.target == target}
        finally:
            _, task = self._under_way.get(target.reference, (target, None))
            if task is asyncio.current_task():
                self.drop(target.reference)


@contextlib.asynccontextmanager
async def taken(reconciler: Reconciler) -> AsyncIterator[Requests]:
    """Take requests while the block runs; what is under way at its end is stopped."""
    async with asyncio.TaskGroup() as group:
        requests = Requests(reconciler, group)
        with reconciler.parts.changes.heard_by(requests.hear):
            try:
                yield requests
            finally:
                requests.cancel()
