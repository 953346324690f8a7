"""What must be allowed before it is shown: which publications have gates, and how those are asked."""

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bridge.changes import Trigger
from bridge.errors import HookError
from bridge.hooks.document import Document, ImageDocument, moment
from bridge.hooks.finding import Hook, Stage
from bridge.plan import Image, Publication, Target
from bridge.podman.client import Podman
from bridge.publish import threads
from bridge.publish.export import Exported
from bridge.publish.parts import Parts
from bridge.publish.staging import staged
from bridge.tree.layouts import link_layout

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a publication: which one it is, counted from 1, and why the store was looked at.

    `by_hand` says that somebody asked for it.
    """

    target: Target
    trigger: Trigger = Trigger.RESYNC
    attempt: int = 1
    by_hand: bool = False


class Gates:
    """The gates of one tree. Raises DeniedError where one denies, HookError where one asks for a later try."""

    def __init__(self, parts: Parts) -> None:
        self._podman = parts.podman
        self._tree = parts.tree
        self._hooks = parts.hooks
        self._seen: tuple[Hook, ...] = ()
        """Those of the last time that they could be read."""
        self._is_known = False
        """Whether that was the last look: else every target is guarded, and fails until they can be read."""

    def look(self) -> bool:
        """Find the gates again, and return True if they are not those of the last time.

        If they cannot be read now, the next target that they may guard looks again.
        """
        try:
            return self._find()
        except HookError as error:
            log.warning("gates cannot be read, will try again error=%r", str(error))
            return False

    def _find(self) -> bool:
        self._is_known = False
        before, self._seen = self._seen, self._hooks.gates()
        self._is_known = True
        return before != self._seen

    def guard(self, target: Target) -> bool:
        """Say whether a target has to be allowed: what its reference shows already was."""
        shown = self._tree.publication(target.reference)
        return bool(self._seen or not self._is_known) and (shown is None or shown.source != target.image.source)

    async def before_export(self, work: Try) -> None:
        """Ask whether the target may be published, with nothing of it exported yet."""
        if self.guard(work.target) and self._has(Stage.PRE_PUBLISH):
            await self._hooks.ask(await self._document(work, Stage.PRE_PUBLISH))

    async def before_showing(self, work: Try, exported: Exported) -> None:
        """Ask whether what was exported may be shown; the gates get all of it as an OCI layout."""
        if self.guard(work.target) and self._has(Stage.VERIFY):
            async with self._layout(work, exported) as layout:
                await self._hooks.ask(await self._document(work, Stage.VERIFY, exported, layout))

    def _has(self, stage: Stage) -> bool:
        """Return True if a stage has gates; raise HookError if that cannot be seen."""
        if not self._is_known:
            self._find()
        return any(hook.stage is stage for hook in self._seen)

    @contextlib.asynccontextmanager
    async def _layout(self, work: Try, exported: Exported) -> AsyncIterator[str]:
        async with staged(self._tree) as directory:
            tag = work.target.reference.tag
            await threads.run(link_layout, self._tree.paths, exported.descriptor, tag, directory)
            yield str(directory)

    async def _document(
        self, work: Try, stage: Stage, exported: Exported | None = None, layout: str | None = None
    ) -> Document:
        image, reference = work.target.image, work.target.reference
        return Document(
            stage=stage,
            reference=str(reference),
            repository=reference.repository.name,
            tag=reference.tag.name,
            previous_digest=served(self._tree.publication(reference)),
            digest=None if exported is None else str(exported.descriptor.digest),
            media_type=None if exported is None else exported.descriptor.media_type,
            fidelity=None if exported is None else str(exported.fidelity),
            size=image.size if exported is None else exported.size,
            image=await image_document(self._podman, image),
            layout=layout,
            trigger=work.trigger,
            attempt=work.attempt,
        )


def served(publication: Publication | None) -> str | None:
    """Return the digest that a publication shows; None where there is no publication."""
    return None if publication is None else str(publication.descriptor.digest)


async def image_document(podman: Podman, image: Image) -> ImageDocument:
    """Describe an image of the store. A listing does not tell its platform; raises PodmanError."""
    inspected = None if image.is_list else await podman.inspect(image.id)
    return ImageDocument(
        id=image.id,
        digest=None if image.digest is None else str(image.digest),
        names=image.names,
        labels=image.labels,
        architecture="" if inspected is None else inspected.architecture,
        os="" if inspected is None else inspected.os,
        created=moment(image.created),
    )
