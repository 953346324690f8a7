"""Publishing because somebody asked: what that would do, its begin, and its way told step by step."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from bridge.errors import ControlError
from bridge.oci import Reference
from bridge.plan import Target
from bridge.progress import Event, Looking, Shown, Step
from bridge.publish.failures import words
from bridge.publish.reconcile import Reconciler
from bridge.service import finding
from bridge.service.requests import Requests

_LOOK_EVERY = 0.25
"""Seconds between two looks at an export."""

TELL_EVERY = 5.0
"""Seconds between two steps that say the same, so that nobody on the way takes a stream for dead."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An image that somebody asked to be published: under `reference`, or under what the rules say."""

    image: str
    reference: Reference | None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Publishing:
    """Does what was asked, by way of the reconciler. Something is told every `tell_every` seconds."""

    reconciler: Reconciler
    requests: Requests
    tell_every: float = TELL_EVERY

    async def targets(self, asked: Asked) -> list[Target]:
        """Say what would be published. Raises ImageUnknownError, UnreachableError, ControlError."""
        found = await finding.image(self.reconciler, asked.image)
        return finding.targets(self.reconciler, found, asked.reference, force=asked.force)

    async def begin(self, asked: Asked) -> list[Target]:
        """Begin all of it, and return what that is."""
        targets = await self.targets(asked)
        for target in targets:
            await self._begin(target)
        return targets

    async def steps(self, asked: Asked) -> AsyncGenerator[Event]:
        """Do it, and tell how far it is: steps, and one `Shown` for each reference; `Looking` where that takes long.

        Raises ControlError, too, with the reason why one of them is not published.
        """
        looking = asyncio.create_task(self.targets(asked))
        try:
            while not (await asyncio.wait({looking}, timeout=self.tell_every))[0]:
                yield Looking(asked.image)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        for target in looking.result():
            async with contextlib.aclosing(self._follow(target, await self._begin(target))) as steps:
                async for step in steps:
                    yield step
            yield self._shown(target)

    async def _begin(self, target: Target) -> asyncio.Task[None]:
        try:
            await self.reconciler.release(target.reference)
        except OSError as error:
            msg = f"{target.reference} stays held: {words(error)}"
            raise ControlError(msg) from error
        return self.requests.start(target)

    async def _follow(self, target: Target, task: asyncio.Task[None]) -> AsyncGenerator[Step]:
        last, told = None, 0.0
        while not task.done():
            await asyncio.wait({task}, timeout=min(_LOOK_EVERY, self.tell_every))
            step = self._step(target)
            if not task.done() and (step != last or time.monotonic() - told > self.tell_every):
                yield step
                last, told = step, time.monotonic()

    def _step(self, target: Target) -> Step:
        now = self.reconciler.parts.exporter.look_for(target.image)
        if now is None:
            return Step(target.reference, target.image.id)
        return Step(target.reference, target.image.id, now.layers_done, now.layers, now.written)

    def _shown(self, target: Target) -> Shown:
        shown = self.reconciler.shown
        publication = shown.publications.get(target.reference)
        if publication is not None and publication.source == target.image.source:
            return Shown(target.reference, publication.descriptor.digest, publication.descriptor.size)
        why = self.requests.failure(target) or self._overtaken(target)
        msg = f"{target.reference} is not published: {why}"
        raise ControlError(msg)

    def _overtaken(self, target: Target) -> str:
        """Say what happened meanwhile to something that has not failed, and is not shown."""
        if target.reference in self.reconciler.shown.held:
            return "it was held back meanwhile"
        if any(image.source == target.image.source for image in self.reconciler.images):
            return "it was withdrawn meanwhile, or another image was asked for or has its name"
        return "its image has left podman's store"
