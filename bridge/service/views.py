"""What the control API shows, made from what the parts know."""

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from bridge.conditions import Condition
from bridge.control.schema import ConditionView, ExportView, PublicationView
from bridge.oci import Reference
from bridge.plan import Publication, Target
from bridge.publish.failures import Failure
from bridge.publish.job import Progress


def published(publication: Publication) -> PublicationView:
    """Show a publication of the tree."""
    return PublicationView(
        reference=str(publication.reference),
        state="Published",
        name=publication.name,
        image=publication.source.image_id,
        digest=str(publication.descriptor.digest),
        podman_digest=str(publication.source.digest or ""),
        media_type=publication.descriptor.media_type,
        fidelity=str(publication.fidelity),
        reason=publication.fidelity.reason,
        origins=sorted(map(str, publication.origins)),
        size=publication.size,
        published=publication.published,
        requested=publication.requested,
        keep=None if math.isinf(publication.keep) else float(publication.keep),
        gone=publication.gone,
        message=_message(publication),
    )


def _message(publication: Publication) -> str:
    if publication.gone is None:
        return ""
    until = (
        ""
        if math.isinf(publication.keep)
        else f" until {datetime.fromtimestamp(publication.gone + publication.keep, UTC):%Y-%m-%d %H:%M UTC}"
    )
    return f"kept{until}, its image has left podman's store"


def pending(target: Target) -> PublicationView:
    """Show what waits for its export."""
    return _target(target, "Pending")


def failed(failure: Failure) -> PublicationView:
    """Show what could not be published."""
    view = _target(failure.target, "Failed")
    view.message, view.attempts, view.retry_at = failure.message, failure.attempts, failure.retry_at
    return view


def held(reference: Reference) -> PublicationView:
    """Show what an operator keeps out."""
    message = f"held back; `podbridge publish` with the image, or with --as {reference}, lets it through"
    return PublicationView(reference=str(reference), state="Held", message=message)


def _target(target: Target, state: str) -> PublicationView:
    return PublicationView(
        reference=str(target.reference),
        state=state,
        name=target.name,
        image=target.image.id,
        podman_digest=str(target.image.digest or ""),
        size=target.image.size,
        requested=target.requested,
    )


def conditions(all_conditions: Iterable[Condition]) -> list[ConditionView]:
    """Show the conditions."""
    return [ConditionView(str(one.kind), one.status, one.reason, one.message, one.since) for one in all_conditions]


def export(progress: Progress) -> ExportView:
    """Show the export under way."""
    return ExportView(
        image=progress.image.id,
        names=list(progress.image.names),
        layers_done=progress.layers_done,
        layers=progress.layers,
        written=progress.written,
        seconds=time.monotonic() - progress.started,
    )
