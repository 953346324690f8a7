"""How the service is, in one line, for `systemctl status`."""

from dataclasses import dataclass
from pathlib import Path

from bridge.conditions import Kind
from bridge.publish.reconcile import Reconciler


@dataclass(frozen=True, slots=True)
class ServiceWords:
    """The words of a service that publishes."""

    reconciler: Reconciler

    def has_begun(self) -> bool:
        """Say whether the first pass is through, or podman is away: then what the tree holds is served as it is."""
        return self.reconciler.ready.is_set() or self._away()

    def words(self) -> str:
        """Say what is published, and what is under way or in the way."""
        reconciler = self.reconciler
        published = len(reconciler.shown.publications)
        if self._away():
            return f"podman is away, {published} published stay served"
        if reconciler.queue:
            return self._under_way()
        if reconciler.last_look is None:
            return f"{published} published, looking for the first time"
        if reconciler.held_back:
            held = len(reconciler.held_back)
            return f"{published} published, {held} withdrawals held back: `podbridge resync --prune` lets them through"
        failed = f", {len(reconciler.failures)} failed" if len(reconciler.failures) else ""
        return f"{published} published{failed}, watching"

    def _under_way(self) -> str:
        """Count what waits as not published: its reference shows nothing, or another image."""
        waiting = {target.reference for target in self.reconciler.queue}
        total = len(waiting | self.reconciler.shown.publications.keys())
        export = self.reconciler.parts.exporter.look()
        names = export.image.names if export is not None else ()
        doing = f"exporting {names[0] if names else export.image.id[:12]}" if export is not None else "exporting"
        return f"{total - len(waiting)} of {total} published, {doing}"

    def _away(self) -> bool:
        return self.reconciler.parts.conditions[Kind.PODMAN_REACHABLE].status is False


@dataclass(frozen=True, slots=True)
class RegistryWords:
    """The words of a registry without a publisher."""

    tree: Path

    def has_begun(self) -> bool:
        """Say that it serves from the first moment."""
        return True

    def words(self) -> str:
        """Say what is served."""
        return f"serving {self.tree}" if self.tree.exists() else f"nothing to serve yet, there is no {self.tree}"
