"""What the control API shows, made from what the parts know."""

import math
import time
from collections.abc import Collection, Iterable, Mapping

from bridge.changes import Change
from bridge.conditions import Condition
from bridge.control.schema import (
    ConditionView,
    DamageView,
    DecisionView,
    EventView,
    ExportView,
    PlanView,
    PublicationView,
    ScrubView,
    State,
)
from bridge.hooks.document import moment
from bridge.oci import Reference
from bridge.plan import Damage, Fidelity, Plan, Publication, Shown, Target, is_mass_withdrawal
from bridge.policy import Decision
from bridge.publish.failures import Failure
from bridge.publish.job import Progress
from bridge.service.healing import Healing
from bridge.tree.index import Superseded


def published(publication: Publication, damaged: Collection[str] = ()) -> PublicationView:
    """Show a publication of the tree; `damaged` are the IDs of the images that podman cannot read."""
    return PublicationView(
        reference=str(publication.reference),
        state=State.PUBLISHED,
        name=publication.name,
        image=publication.source.image_id,
        digest=str(publication.descriptor.digest),
        podman_digest=_podman_digest(publication),
        media_type=publication.descriptor.media_type,
        fidelity=str(publication.fidelity),
        reason=publication.reason,
        origins=sorted(map(str, publication.origins)),
        size=publication.size,
        published=publication.published,
        requested=publication.requested,
        keep=None if math.isinf(publication.keep) else float(publication.keep),
        gone=publication.gone,
        message=_message(publication, damaged),
    )


def _podman_digest(publication: Publication) -> str:
    """Return the digest of podman's own manifest: the one that is served if that is one, or else the current one."""
    if publication.fidelity is Fidelity.EXACT:
        return str(publication.descriptor.digest)
    return str(publication.source.digest or "")


def _message(publication: Publication, damaged: Collection[str]) -> str:
    if publication.source.image_id in damaged:
        return "podman cannot read its image any more, what it shows stays; `podbridge status` tells the cure"
    if publication.gone is None:
        return ""
    end = moment(publication.gone + publication.keep)
    until = "" if end is None else f" until {end[:10]} {end[11:16]} UTC"
    return f"kept{until}, its image has left podman's store"


def pending(target: Target, now: Publication | None = None) -> PublicationView:
    """Show what waits for its export, and serves `now` meanwhile."""
    return _target(target, State.PENDING, now)


def exporting(target: Target, now: Publication | None, progress: Progress) -> PublicationView:
    """Show what is being exported."""
    view = _target(target, State.EXPORTING, now)
    view.layers_done, view.layers, view.written = progress.layers_done, progress.layers, progress.written
    return view


def failed(failure: Failure, now: Publication | None = None, *, again: bool = True) -> PublicationView:
    """Show what could not be published, or was denied; `again` says that it is tried again by itself.

    What its reference showed before stays, and is told.
    """
    view = _target(failure.target, State.DENIED if failure.denied_by else State.FAILED, now)
    view.message, view.attempts = failure.message, failure.attempts
    view.retry_at = failure.retry_at if again else None
    view.permanent = failure.permanent
    if now is not None:
        view.message += f"; what it showed before stays, image {now.source.image_id[:12]}"
    return view


def withdrawn(old: Superseded) -> PublicationView:
    """Show what the tree showed until just now, and still hands out by digest."""
    view = published(old.publication)
    view.state, view.withdrawn = State.WITHDRAWN, old.since
    view.message = "withdrawn; its bytes stay for pulls under way until the grace period ends"
    return view


def held(reference: Reference) -> PublicationView:
    """Show what an operator keeps out."""
    message = f"held back; `podbridge publish` with the image, or with --as {reference}, lets it through"
    return PublicationView(reference=str(reference), state=State.HELD, message=message)


def plan(made: Plan, shown: Shown, max_withdraw: float) -> PlanView:
    """Show what a pass would do that withdraws at most this fraction of what a tree shows."""
    now = shown.publications
    publish = [pending(target, now.get(target.reference)) for target in made.publish]
    leaving = [published(now[reference]) for reference in made.withdraw if reference in now]
    held_back = is_mass_withdrawal(made, shown, max_withdraw)
    return PlanView(publish, [] if held_back else leaving, leaving if held_back else [])


def _target(target: Target, state: State, now: Publication | None) -> PublicationView:
    view = PublicationView(
        reference=str(target.reference),
        state=state,
        name=target.name,
        image=target.image.id,
        podman_digest=str(target.image.digest or ""),
        size=target.image.size,
        requested=target.requested,
    )
    if now is not None:
        view.digest, view.media_type = str(now.descriptor.digest), now.descriptor.media_type
        view.published, view.fidelity, view.reason = now.published, str(now.fidelity), now.reason
    return view


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


def scrub(healing: Healing, every: float) -> ScrubView | None:
    """Show how far the scrub is; None where none is wanted."""
    if not every:
        return None
    state = healing.state
    total = healing.total if state.begun is not None else state.read
    return ScrubView(float(every), state.begun, state.ended, state.blobs, state.read, total, state.damaged)


def decision(decided: Decision, shown: Mapping[str, PublicationView]) -> DecisionView:
    """Show what the rules decide for a name, with what has become of it."""
    found = [
        shown.get(str(reference), PublicationView(reference=str(reference), state=State.PENDING))
        for reference in decided.references
    ]
    return DecisionView(decided.name, decided.reason, list(decided.trace), found)


def damage(found: Iterable[Damage]) -> list[DamageView]:
    """Show the images that podman cannot read."""
    return [DamageView(one.image_id, str(one)) for one in found]


def event(change: Change) -> EventView:
    """Show a change; the feed gives it an ID."""
    now, before = change.publication, change.previous
    digest = "" if now is None else str(now.descriptor.digest)
    previous = "" if before is None else str(before.descriptor.digest)
    return EventView(
        id="",
        time=time.time(),
        action=str(change.action),
        reference=str(change.reference),
        name="" if now is None else now.name,
        image=change.image.id if change.image is not None else "" if now is None else now.source.image_id,
        digest=digest,
        previous="" if previous == digest else previous,
        fidelity="" if now is None else str(now.fidelity),
        size=0 if now is None else now.size,
        seconds=change.seconds,
        read=change.read,
        message=change.message,
        attempts=change.attempts,
        permanent=change.permanent,
    )
