"""What operators ask of the running service, done with the reconciler."""

import math
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from bridge import __version__
from bridge.conditions import Kind
from bridge.control.schema import (
    DecisionView,
    Explanation,
    PlanView,
    PublicationView,
    State,
    Status,
    SweptView,
)
from bridge.errors import ControlError, NotReadyError, UnreachableError
from bridge.oci import Reference
from bridge.progress import Event
from bridge.publish.reconcile import Reconciler
from bridge.registry.workers import Workers
from bridge.service import finding, views
from bridge.service.healing import Healing
from bridge.service.inventory import Inventory
from bridge.service.publishing import TELL_EVERY, Asked, Publishing
from bridge.service.requests import Requests
from bridge.service.settings import Settings


@dataclass(slots=True)
class Facts:
    """What the service knows of itself; `podman` is its version once it has answered, `sockets` where it listens."""

    registry: str
    scheme: str = "http"
    own_podman: bool = False
    podman: str = ""
    started: float = field(default_factory=time.time)
    sockets: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steering:
    """The way of the control API and of the api socket to the parts."""

    reconciler: Reconciler
    requests: Requests
    facts: Facts
    workers: Workers
    settings: Settings
    healing: Healing
    tell_every: float = TELL_EVERY

    @property
    def inventory(self) -> Inventory:
        """Every reference with its state."""
        return Inventory(self.reconciler, self.requests)

    @property
    def _publishing(self) -> Publishing:
        return Publishing(self.reconciler, self.requests, self.tell_every)

    def status(self) -> Status:
        """Say how the service is."""
        reconciler, parts = self.reconciler, self.reconciler.parts
        export = parts.exporter.look()
        failures = self.inventory.failed
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
                "pending": len(self.inventory.waiting),
                "failed": sum(view.state is State.FAILED for view in failures),
                "denied": sum(view.state is State.DENIED for view in failures),
                "held": len(reconciler.shown.held),
                "heldBack": len(reconciler.held_back),
            },
            last_look=reconciler.last_look,
            export=None if export is None else views.export(export),
            failures=failures,
            sockets=self.facts.sockets,
            scheme=self.facts.scheme,
            damage=views.damage(reconciler.damage),
            scrub=views.scrub(self.healing, self.settings.config.scrub.every),
        )

    def require_ready(self) -> None:
        """Raise NotReadyError, which says why, until the first pass is through."""
        if self.reconciler.ready.is_set():
            return
        denied = [one.message for one in self.reconciler.parts.conditions if one.status is False]
        msg = f"the first pass is not through yet{': ' if denied else ''}{'; '.join(denied)}"
        raise NotReadyError(msg)

    def publications(self) -> list[PublicationView]:
        """List every reference that is published or should be, or was until just now."""
        return self.inventory.all()

    def publication(self, reference: Reference) -> PublicationView:
        """Show one reference; raise NotPublishedError where nothing is known of it."""
        return self.inventory.one(reference)

    def publishing(self, image: str, reference: Reference | None, *, force: bool = False) -> AsyncGenerator[Event]:
        """Publish an image now, and tell how far it is: steps, and one `Shown` for each reference.

        Under `reference` it stays until it is withdrawn or its image goes; otherwise the rules decide
        the references. Lets through what was held. A step comes when something has changed, and every few
        seconds in any case. Who stops listening stops nothing. With `force` it takes a reference from the
        image that the rules give it to. Raises ImageUnknownError, UnreachableError, and ControlError with
        the reason why it is not published.
        """
        return self._publishing.steps(Asked(image, reference, force))

    async def begin(self, image: str, reference: Reference | None, *, force: bool = False) -> list[PublicationView]:
        """Begin to publish an image, and return how its references are now."""
        return self.inventory.of(await self._publishing.begin(Asked(image, reference, force)))

    async def preview(self, image: str, reference: Reference | None, *, force: bool = False) -> list[PublicationView]:
        """Say what would be published, and do nothing: Pending where the tree does not show it yet."""
        targets = await self._publishing.targets(Asked(image, reference, force))
        shown = self.reconciler.shown.publications
        found = [(target, shown.get(target.reference)) for target in targets]
        return [
            views.published(now)
            if now is not None and now.source == target.image.source
            else views.pending(target, now)
            for target, now in found
        ]

    async def withdraw(self, reference: Reference, *, hold: bool) -> None:
        """Take a publication out of the tree; with `hold` it stays out until it is published by hand.

        What is exported for it by hand is not shown any more. Of a request that failed, only the failure is
        forgotten.
        """
        target = self.reconciler.wanted.targets.get(reference)
        publication = self.reconciler.shown.publications.get(reference)
        if target is not None and not hold and not (publication is not None and publication.requested):
            msg = (
                f"podman holds {target.name}, so the next pass would publish {reference} again: "
                f"keep it out with --hold, or `podman untag {target.name}`"
            )
            raise ControlError(msg)
        had_failed = self.requests.forget(reference)
        if publication is not None or hold or not had_failed:
            await self.reconciler.withdraw(reference, hold=hold)
        self.requests.drop(reference)

    async def resync(self, *, prune: bool) -> Status:
        """Look at everything now, also at what failed and waits; `prune` lets a mass withdrawal through.

        A new configuration that is just being taken up is waited for: the look goes by its rules.
        """
        await self.settings.settled()
        self.reconciler.failures.clear()
        if not await self.reconciler.look(prune=prune):
            raise UnreachableError(self.reconciler.parts.conditions[Kind.PODMAN_REACHABLE].message)
        return self.status()

    async def plan(self, *, prune: bool) -> PlanView:
        """Say what a look would do, and do nothing."""
        limit = math.inf if prune else self.reconciler.parts.bounds.max_withdraw
        return views.plan(await self.reconciler.plan(), self.reconciler.parts.tree.shown, limit)

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
            view
            for view in shown.values()
            if view.requested and view.image == found.id and view.state is State.PUBLISHED
        ]
        decisions = [views.decision(self.reconciler.parts.policy.decide(name, found), shown) for name in found.names]
        if requested:
            decisions.append(DecisionView("", "", ["published by hand"], requested))
        return Explanation(found.id, str(found.digest or ""), decisions, message)
