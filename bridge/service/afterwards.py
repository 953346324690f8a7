"""Hooks that hear what has happened: queued, in order for each reference, and never in the way of a pass."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from bridge.changes import Action, Change
from bridge.errors import InvalidError, PodmanError
from bridge.fence import Fence
from bridge.hooks.document import Document, ImageDocument, moment
from bridge.hooks.finding import Stage
from bridge.oci import Manifest, Reference
from bridge.plan import Publication
from bridge.publish.gates import image_document, served
from bridge.publish.parts import Parts
from bridge.untrusted_json import decode

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that a service which stops gives to what is queued."""
_LANES = 4
"""References whose hooks run side by side."""

_STAGES = {
    Action.PUBLISHED: Stage.POST_PUBLISH,
    Action.WITHDRAWN: Stage.POST_WITHDRAW,
    Action.FAILED: Stage.PUBLISH_FAILED,
    Action.DENIED: Stage.PUBLISH_FAILED,
}


class _Container(msgspec.Struct, rename="pascal"):
    labels: dict[str, str] | None = None


class _Config(msgspec.Struct):
    """What is read of an image's config (image-spec v1.1.1, config.md)."""

    architecture: str = ""
    os: str = ""
    created: str | None = None
    config: _Container | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """One stage to call the hooks of, because of one change."""

    stage: Stage
    change: Change


class Afterwards:
    """Queues what the hooks are told. No task is there but for a reference of which something is queued."""

    def __init__(self, parts: Parts, group: asyncio.TaskGroup) -> None:
        self._parts = parts
        self._group = group
        self._lanes: dict[Reference, deque[_Call]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(_LANES)
        self._fence = Fence()

    def hear(self, change: Change) -> None:
        """Queue a change, where some hook wants to hear of it and it is news."""
        stage = _STAGES[change.action]
        if not self._is_news(change) or not self._parts.hooks.of(stage):
            return
        call = _Call(stage, change)
        if change.reference in self._lanes:
            self._lanes[change.reference].append(call)
            return
        self._lanes[change.reference] = deque([call])
        task = self._group.create_task(self._empty(change.reference))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self, patience: float | None) -> None:
        """Wait for what is queued, for so many seconds; then end what runs, and name what is left in the log."""
        if self._running:
            await asyncio.wait(tuple(self._running), timeout=patience)
        for lane in self._lanes.values():
            for call in lane:
                told = call.stage, call.change.reference
                log.warning("hooks not run to their end, podbridge stops stage=%s reference=%s", *told)
        for task in tuple(self._running):
            task.cancel()

    def _is_news(self, change: Change) -> bool:
        """Say whether anybody would call it a change: not the same image once more, nor the same failure."""
        if change.action in (Action.FAILED, Action.DENIED):
            return not change.repeats
        return change.action is Action.WITHDRAWN or served(change.publication) != served(change.previous)

    async def _empty(self, reference: Reference) -> None:
        """Run what is queued for a reference; a call leaves the queue when it is done."""
        lane = self._lanes[reference]
        while lane:
            async with self._free:
                with self._fence.within(f"hooks of {lane[0].stage} for {reference}"):
                    await self._parts.hooks.tell(await self._document(lane[0]))
            lane.popleft()
        del self._lanes[reference]

    async def _document(self, call: _Call) -> Document:
        change, reference = call.change, call.change.reference
        published = change.publication if change.action in (Action.PUBLISHED, Action.WITHDRAWN) else None
        image = await asyncio.to_thread(self._read_image, published) if published else await self._ask_image(change)
        shown = self._parts.tree.paths.repository(reference.repository).layout
        return Document(
            stage=call.stage,
            reference=str(reference),
            repository=reference.repository.name,
            tag=reference.tag.name,
            digest=served(published),
            previous_digest=served(change.previous),
            media_type=None if published is None else published.descriptor.media_type,
            fidelity=None if published is None else str(published.fidelity),
            size=published.size if published else change.image.size if change.image else 0,
            image=image,
            layout=str(shown) if change.action is Action.PUBLISHED else None,
            trigger=change.trigger,
            attempt=change.attempts,
            message=change.message,
            denied_by=change.hook or None,
        )

    async def _ask_image(self, change: Change) -> ImageDocument:
        """Describe an image that could not be published, as far as podman can."""
        image = change.image
        assert image is not None  # noqa: S101 - what fails is always an image
        try:
            return await image_document(self._parts.podman, image)
        except PodmanError:
            return ImageDocument(id=image.id, names=image.names, labels=image.labels, created=moment(image.created))

    def _read_image(self, publication: Publication) -> ImageDocument:
        """Describe a publication's image by its config in the tree, which podman's store may no longer have."""
        paths, source = self._parts.tree.paths, publication.source
        config = _Config()
        with contextlib.suppress(OSError, InvalidError):
            manifest = Manifest.parse(paths.blob(publication.descriptor.digest).read_bytes())
            if manifest.config is not None:
                config = decode(paths.blob(manifest.config.digest).read_bytes(), "config", _Config)
        return ImageDocument(
            id=source.image_id,
            digest=None if source.digest is None else str(source.digest),
            names=(publication.name,),
            labels=(config.config and config.config.labels) or {},
            architecture=config.architecture,
            os=config.os,
            created=config.created,
        )


@contextlib.asynccontextmanager
async def hearing(parts: Parts, patience: float | None) -> AsyncIterator[None]:
    """Have the hooks told of every change while the block runs, and wait `patience` seconds for them at its end.

    A block that is cancelled waits `PATIENCE` seconds.
    """
    parts.hooks.look()
    async with asyncio.TaskGroup() as group:
        afterwards = Afterwards(parts, group)
        with parts.changes.heard_by(afterwards.hear):
            try:
                yield
            except asyncio.CancelledError:
                patience = PATIENCE
                raise
            finally:
                await afterwards.finish(patience)
