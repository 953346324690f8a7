"""What operators ask of the running service, done with the reconciler."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from bridge import __version__
from bridge.conditions import Kind
from bridge.control.schema import DecisionView, Explanation, PublicationView, Status, SweptView
from bridge.errors import ControlError, UnreachableError
from bridge.oci import Reference
from bridge.plan import Target
from bridge.policy import Decision
from bridge.progress import Shown, Step
from bridge.publish.reconcile import Reconciler
from bridge.service import finding, views
from bridge.service.requests import Requests

_LOOK_EVERY = 0.25
_TELL_EVERY = 5.0
"""Seconds between two looks at an export, and between two steps that say the same."""


@dataclass(slots=True)
class Facts:
    """What the service knows of itself; `podman` is its version once it has answered."""

    registry: str
    own_podman: bool = False
    podman: str = ""
    started: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Steering:
    """The control API's way to the parts."""

    reconciler: Reconciler
    requests: Requests
    facts: Facts

    def status(self) -> Status:
        """Say how the service is."""
        reconciler, parts = self.reconciler, self.reconciler.parts
        export = parts.exporter.look()
        failures = [views.failed(failure) for failure in reconciler.failures]
        return Status(
            version=__version__,
            pid=os.getpid(),
            started=self.facts.started,
            podman=self.facts.podman,
            podman_socket=str(parts.podman.socket),
            tree=str(parts.tree.paths.root),
            registry=self.facts.registry,
            conditions=views.conditions(parts.conditions),
            counts={
                "images": len(reconciler.images),
                "published": len(reconciler.shown.publications),
                "pending": len(reconciler.queue),
                "failed": len(failures),
                "held": len(reconciler.shown.held),
                "heldBack": len(reconciler.held_back),
            },
            last_look=reconciler.last_look,
            export=None if export is None else views.export(export),
            failures=failures,
        )

    def publications(self) -> list[PublicationView]:
        """List everything that is published, waits, failed or is held, by reference."""
        reconciler = self.reconciler
        shown = {reference: views.held(reference) for reference in reconciler.shown.held}
        shown |= {reference: views.published(item) for reference, item in reconciler.shown.publications.items()}
        shown |= {target.reference: views.pending(target) for target in reconciler.queue}
        shown |= {failure.target.reference: views.failed(failure) for failure in reconciler.failures}
        return [shown[reference] for reference in sorted(shown)]

    async def publish(self, image: str, reference: Reference | None) -> list[PublicationView]:
        """Publish an image now, and wait for it.

        Under `reference` it stays until it is withdrawn or its image goes; otherwise the rules decide
        the references. Lets through what was held. Raises ControlError where no rule maps a name.
        """
        steps = self.publishing(image, reference)
        shown = {str(step.reference) async for step in steps if isinstance(step, Shown)}
        return [view for view in self.publications() if view.reference in shown]

    async def publishing(
        self, image: str, reference: Reference | None, *, force: bool = False
    ) -> AsyncGenerator[Step | Shown]:
        """Publish an image now, and tell how far it is: steps, and one `Shown` for each reference.

        A step comes when something has changed, and every few seconds in any case. Who stops listening
        stops nothing. With `force` it takes a reference from the image that the rules give it to. Raises
        ImageUnknownError, UnreachableError, and ControlError with the reason why it is not published.
        """
        found = await finding.image(self.reconciler, image)
        for target in finding.targets(self.reconciler, found, reference, force=force):
            await self.reconciler.release(target.reference)
            async with contextlib.aclosing(self._steps(target, self.requests.start(target))) as steps:
                async for step in steps:
                    yield step
            yield self._shown(target)

    async def _steps(self, target: Target, task: asyncio.Task[None]) -> AsyncGenerator[Step]:
        last, told = None, 0.0
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_EVERY)
            step = self._step(target)
            if not task.done() and (step != last or time.monotonic() - told > _TELL_EVERY):
                yield step
                last, told = step, time.monotonic()

    def _step(self, target: Target) -> Step:
        now = self.reconciler.parts.exporter.look_for(target.image)
        if now is None:
            return Step(target.reference, target.image.id)
        return Step(target.reference, target.image.id, now.layers_done, now.layers, now.written)

    def _shown(self, target: Target) -> Shown:
        publication = self.reconciler.shown.publications.get(target.reference)
        if publication is not None and publication.source == target.image.source:
            return Shown(target.reference, publication.descriptor.digest, publication.descriptor.size)
        why = self.requests.failure(target) or "its image has left podman's store"
        msg = f"{target.reference} is not published: {why}"
        raise ControlError(msg)

    async def withdraw(self, reference: Reference, *, hold: bool) -> None:
        """Take a publication out of the tree; with `hold` it stays out until it is published by hand."""
        target = self.reconciler.wanted.targets.get(reference)
        publication = self.reconciler.shown.publications.get(reference)
        if target is not None and not hold and not (publication is not None and publication.requested):
            msg = (
                f"podman holds {target.name}, so the next pass would publish {reference} again: "
                f"keep it out with --hold, or `podman untag {target.name}`"
            )
            raise ControlError(msg)
        await self.reconciler.withdraw(reference, hold=hold)

    async def resync(self, *, prune: bool) -> Status:
        """Look at everything now, also at what failed and waits; `prune` lets a mass withdrawal through."""
        self.reconciler.failures.clear()
        if not await self.reconciler.look(prune=prune):
            raise UnreachableError(self._blind)
        return self.status()

    async def sweep(self, *, dry_run: bool) -> SweptView:
        """Sweep the tree."""
        swept = await self.reconciler.sweep(dry_run=dry_run)
        return SweptView(swept.manifests, swept.blobs, swept.freed)

    async def explain(self, image: str) -> Explanation:
        """Say why an image is or is not published."""
        found = await finding.image(self.reconciler, image)
        shown = {view.reference: view for view in self.publications()}
        message = "" if found.names else "it has no name, and only named images are published"
        requested = [
            view for view in shown.values() if view.requested and view.image == found.id and view.state == "Published"
        ]
        decisions = [_decision(self.reconciler.parts.policy.decide(name, found), shown) for name in found.names]
        if requested:
            decisions.append(DecisionView("", "", ["published by hand"], requested))
        return Explanation(found.id, str(found.digest or ""), decisions, message)

    @property
    def _blind(self) -> str:
        return self.reconciler.parts.conditions[Kind.PODMAN_REACHABLE].message


def _decision(decision: Decision, shown: dict[str, PublicationView]) -> DecisionView:
    found = [
        shown.get(str(reference), PublicationView(reference=str(reference), state="Pending"))
        for reference in decision.references
    ]
    return DecisionView(decision.name, decision.reason, list(decision.trace), found)
