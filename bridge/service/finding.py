"""Which image an operator means, and the references that it is to be published under."""

import re

from bridge.conditions import Kind
from bridge.errors import ControlError, ImageUnknownError, PodmanError, UnreachableError
from bridge.oci import Reference
from bridge.plan import Image, Target
from bridge.publish.reconcile import Reconciler


async def image(reconciler: Reconciler, text: str) -> Image:
    """Find an image as podman does: by full name, by short name, by ID or a part of it.

    Looks at podman's store first. Raises UnreachableError, ImageUnknownError for none or several, and PodmanError with
    podman's words for one that podman has and cannot read.
    """
    if not await reconciler.look():
        raise UnreachableError(reconciler.parts.conditions[Kind.PODMAN_REACHABLE].message)
    images = reconciler.images
    for wanted in _spellings(text):
        for found in images:
            if wanted in found.names:
                return found
    prefix = text.removeprefix("sha256:")
    having = [found for found in images if found.id.startswith(prefix)] if _is_id(prefix) else []
    if len(having) == 1:
        return having[0]
    if not having:
        await _require_sound(reconciler, text, prefix)
    problem = "stands for several images; give more of its ID" if having else "is not in podman's store"
    msg = f"{text!r} {problem}"
    raise ImageUnknownError(msg)


async def _require_sound(reconciler: Reconciler, text: str, prefix: str) -> None:
    """Raise PodmanError with the cure if podman has the image, and cannot read it."""
    named = [one for one in reconciler.damage if one.image_id and _is_id(prefix) and one.image_id.startswith(prefix)]
    damage = named[0] if named else await reconciler.parts.podman.trouble(text)
    if damage is not None:
        raise PodmanError(str(damage))


def targets(reconciler: Reconciler, found: Image, reference: Reference | None, *, force: bool) -> list[Target]:
    """Return what publishes an image: under `reference`, or under what the rules say.

    Raises ControlError where no rule maps a name of it, and where a rule gives the reference to another
    image, from which only `force` takes it.
    """
    if reference is not None:
        return [_requested(reconciler, found, reference, force=force)]
    decisions = [reconciler.parts.policy.decide(name, found) for name in found.names]
    references = [one for decision in decisions for one in decision.references]
    if not references:
        reasons = "; ".join(f"{decision.name}: {decision.reason}" for decision in decisions)
        msg = (
            f"image {found.id[:12]} is not published by any rule ({reasons or 'it has no name'}): "
            "name it with --as NAME:TAG"
        )
        raise ControlError(msg)
    return [_ruled(reconciler, found, one) for one in dict.fromkeys(references)]


def _ruled(reconciler: Reconciler, found: Image, reference: Reference) -> Target:
    target = reconciler.wanted.targets.get(reference)
    if target is None:
        msg = f"the rules have just changed; ask again for {reference}"  # a pass that applies them is on its way
        raise ControlError(msg)
    if target.image.source != found.source:
        msg = f"the rules give {reference} to {target.name}, another image: name this one with --as NAME:TAG"
        raise ControlError(msg)
    return target


def _requested(reconciler: Reconciler, found: Image, reference: Reference, *, force: bool) -> Target:
    """Return a target by hand; the rules' own where they say the same, so that a later image of its name follows."""
    ruled = reconciler.wanted.targets.get(reference)
    if ruled is not None and ruled.image.source == found.source:
        return ruled
    shown = reconciler.shown.publications.get(reference)
    if ruled is not None and not force and not (shown is not None and shown.requested):
        msg = (
            f"the rules give {reference} to {ruled.name}, another image: "
            "choose another reference, or use `podbridge publish --force`"
        )
        raise ControlError(msg)
    return Target(reference, found, found.names[0] if found.names else found.id, requested=True)


def _spellings(text: str) -> list[str]:
    tagged = text if ":" in text.rpartition("/")[2] else f"{text}:latest"
    return [text, tagged, f"localhost/{tagged}", f"docker.io/library/{tagged}", f"docker.io/{tagged}"]


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{3,64}", text) is not None
