"""What operators ask of the running service, done with the reconciler."""

import os
import re
import time
from dataclasses import dataclass, field

from bridge import __version__
from bridge.conditions import Kind
from bridge.control.schema import DecisionView, Explanation, PublicationView, Status, SweptView
from bridge.errors import ControlError, ImageUnknownError, UnreachableError
from bridge.oci import Reference
from bridge.plan import Image, Target
from bridge.policy import Decision
from bridge.publish.reconcile import Reconciler
from bridge.registry.workers import Workers
from bridge.service import views


@dataclass(slots=True)
class Facts:
    """What the service knows of itself; `podman` is its version once it has answered."""

    registry: str
    scheme: str = "http"
    own_podman: bool = False
    podman: str = ""
    started: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Steering:
    """The control API's way to the parts."""

    reconciler: Reconciler
    facts: Facts
    workers: Workers

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
            scheme=self.facts.scheme,
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
        found = await self._image(image)
        targets = self._targets(found, reference)
        for target in targets:
            await self.reconciler.release(target.reference)
            await self.reconciler.publish(target)
        shown = {view.reference: view for view in self.publications()}
        results = [shown.get(str(target.reference)) for target in targets]
        for view, target in zip(results, targets, strict=True):
            if view is None or view.state != "Published":
                why = view.message if view is not None else "its image has left podman's store"
                msg = f"{target.reference} is not published: {why}"
                raise ControlError(msg)
        return [view for view in results if view is not None]

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
        found = await self._image(image)
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

    def _targets(self, image: Image, reference: Reference | None) -> list[Target]:
        if reference is not None:
            name = image.names[0] if image.names else image.id
            return [Target(reference, image, name, requested=True)]
        decisions = [self.reconciler.parts.policy.decide(name, image) for name in image.names]
        targets = [
            Target(reference, image, decision.name) for decision in decisions for reference in decision.references
        ]
        if not targets:
            reasons = "; ".join(f"{decision.name}: {decision.reason}" for decision in decisions)
            why = reasons or "it has no name"
            msg = f"image {image.id[:12]} is not published by any rule ({why}): name it with --as NAME:TAG"
            raise ControlError(msg)
        return targets

    async def _image(self, text: str) -> Image:
        """Find an image as podman does: by full name, by short name, by ID or a part of it."""
        if not await self.reconciler.look():
            raise UnreachableError(self._blind)
        images = self.reconciler.images
        for wanted in _spellings(text):
            for image in images:
                if wanted in image.names:
                    return image
        prefix = text.removeprefix("sha256:")
        found = [image for image in images if image.id.startswith(prefix)] if _is_id(prefix) else []
        if len(found) == 1:
            return found[0]
        problem = "stands for several images; give more of its ID" if found else "is not in podman's store"
        msg = f"{text!r} {problem}"
        raise ImageUnknownError(msg)


def _decision(decision: Decision, shown: dict[str, PublicationView]) -> DecisionView:
    found = [
        shown.get(str(reference), PublicationView(reference=str(reference), state="Pending"))
        for reference in decision.references
    ]
    return DecisionView(decision.name, decision.reason, list(decision.trace), found)


def _spellings(text: str) -> list[str]:
    tagged = text if ":" in text.rpartition("/")[2] else f"{text}:latest"
    return [text, tagged, f"localhost/{tagged}", f"docker.io/library/{tagged}", f"docker.io/{tagged}"]


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{3,64}", text) is not None
