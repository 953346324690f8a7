"""Every reference that is published or should be, with its state: put together from all who know a part of it."""

from dataclasses import dataclass

from bridge.control.schema import PublicationView
from bridge.errors import NotPublishedError
from bridge.oci import Reference
from bridge.plan import Target, differs
from bridge.publish.reconcile import Reconciler
from bridge.service import views
from bridge.service.requests import Requests


@dataclass(frozen=True, slots=True)
class Inventory:
    """What can be said of references now."""

    reconciler: Reconciler
    requests: Requests

    def all(self) -> list[PublicationView]:
        """Return a view of each reference, in order. What is later in the list below hides what is earlier."""
        shown = self.reconciler.shown
        found = self._withdrawn()
        damaged = {one.image_id for one in self.reconciler.damage}
        found |= {reference: views.published(item, damaged) for reference, item in shown.publications.items()}
        found |= {target.reference: self._waiting(target) for target in self.waiting}
        found |= self._failures()
        found |= {reference: views.held(reference) for reference in shown.held}
        return [found[reference] for reference in sorted(found)]

    def one(self, reference: Reference) -> PublicationView:
        """Return the view of one reference; raise NotPublishedError where nothing is known of it."""
        text = str(reference)
        for view in self.all():
            if view.reference == text:
                return view
        msg = f"{reference} is not published, and nothing is known of it; `podbridge explain IMAGE` says why"
        raise NotPublishedError(msg)

    def of(self, targets: list[Target]) -> list[PublicationView]:
        """Return the views of some targets that were looked at just now."""
        references = {str(target.reference) for target in targets}
        return [view for view in self.all() if view.reference in references]

    @property
    def failed(self) -> list[PublicationView]:
        """The views of what could not be published."""
        return list(self._failures().values())

    @property
    def waiting(self) -> list[Target]:
        """What is exported, or waits for that, and is not shown yet."""
        shown = self.reconciler.shown.publications
        targets = (*self.reconciler.queue, *self.requests.waiting)
        return [target for target in targets if differs(target, shown.get(target.reference))]

    def _withdrawn(self) -> dict[Reference, PublicationView]:
        old = sorted(self.reconciler.parts.tree.superseded, key=lambda one: one.since)
        return {one.publication.reference: views.withdrawn(one) for one in old}

    def _waiting(self, target: Target) -> PublicationView:
        now = self.reconciler.shown.publications.get(target.reference)
        progress = self.reconciler.parts.exporter.look_for(target.image)
        return views.pending(target, now) if progress is None else views.exporting(target, now, progress)

    def _failures(self) -> dict[Reference, PublicationView]:
        shown = self.reconciler.shown.publications
        found = [(failure, True) for failure in self.reconciler.failures]
        found += [(failure, False) for failure in self.requests.failures]
        return {
            failure.target.reference: views.failed(failure, shown.get(failure.target.reference), again=again)
            for failure, again in found
        }
