"""What podman holds against what the tree shows: their difference, decided without touching either."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.oci import Descriptor, Digest, Reference


@dataclass(frozen=True, slots=True)
class Image:
    """One image of podman's store, as a listing tells it.

    `id` is podman's 64-hex image ID; `names` are full podman names (`localhost/app:1`); `digest` is
    what `podman images --digests` shows; `size` is in bytes and counts shared layers; `created` is in
    seconds since the epoch.
    """

    id: str
    names: tuple[str, ...] = ()
    digest: Digest | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    created: int = 0

    @property
    def source(self) -> "Source":
        """What identifies the bytes that podman would export now."""
        return Source(self.id, self.digest)


@dataclass(frozen=True, slots=True)
class Source:
    """Which image a publication came from: podman's ID, and the digest that podman showed."""

    image_id: str
    digest: Digest | None


class Fidelity(StrEnum):
    """How near the served manifest is to podman's own."""

    EXACT = "exact"  # the served digest is the one that podman shows
    CORRECTED = "corrected"  # podman's untrue media types were mended
    REBUILT = "rebuilt"  # the origin's compressed blobs no longer exist: same image ID, another digest


@dataclass(frozen=True, slots=True)
class Publication:
    """One tag in the tree: what it shows, and where that came from.

    `name` is the podman name it was published for; `requested` says that an operator asked for it
    by hand, so that no rule withdraws it.
    """

    reference: Reference
    descriptor: Descriptor
    source: Source
    fidelity: Fidelity
    name: str
    size: int
    published: float
    requested: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One reference that should show one image, because of one podman name."""

    reference: Reference
    image: Image
    name: str
    requested: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass has to do. `publish` comes in order; what needs no export is first."""

    publish: tuple[Target, ...] = ()
    withdraw: tuple[Reference, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.publish or self.withdraw)


def make_plan(
    wanted: Mapping[Reference, Target],
    published: Mapping[Reference, Publication],
    images: Iterable[Image],
    held: AbstractSet[Reference] = frozenset(),
) -> Plan:
    """Decide what makes the tree show `wanted`.

    A requested publication stays as long as its image is in the store, and wins over a rule. A held
    reference is not published. New work comes smallest image first, so that quick ones show early.
    """
    present = {image.id for image in images}
    requested = {
        reference
        for reference, publication in published.items()
        if publication.requested and publication.source.image_id in present
    }
    sources = {publication.source for publication in published.values()}
    publish = [
        target
        for reference, target in wanted.items()
        if reference not in held and reference not in requested and _differs(target, published.get(reference))
    ]
    publish.sort(key=lambda target: (target.image.source not in sources, target.image.size, target.reference))
    withdraw = sorted(
        reference
        for reference in published
        if reference not in requested and (reference in held or reference not in wanted)
    )
    return Plan(tuple(publish), tuple(withdraw))


def _differs(target: Target, publication: Publication | None) -> bool:
    return publication is None or publication.source != target.image.source
