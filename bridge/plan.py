"""What podman holds against what the tree shows: their difference, decided without touching either."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.oci import Descriptor, Digest, Reference


@dataclass(frozen=True, slots=True)
class Image:
    """One image of podman's store, as a listing tells it.

    `id` is podman's 64-hex image ID; `names` are full podman names (`localhost/app:1`); `digest` is
    that of the current manifest, which `podman push` sends; `digests` are all that podman knows the
    image by; `size` is in bytes and counts shared layers; `created` is in seconds since the epoch.
    Of an image with several digests podman may not tell which is the current one: then `digest` is
    the one that it shows, and `form` is not empty, and another one whenever the current manifest is.
    """

    id: str
    names: tuple[str, ...] = ()
    digest: Digest | None = None
    digests: frozenset[Digest] = frozenset()
    is_list: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    created: int = 0
    form: str = ""

    @property
    def source(self) -> "Source":
        """What identifies the bytes that podman would export now."""
        return Source(self.id, self.digest, self.form)


@dataclass(frozen=True, slots=True)
class Source:
    """Which image a publication came from: podman's ID, and the digest of its manifest, or of one with its form."""

    image_id: str
    digest: Digest | None
    form: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """What podman says of an image that it cannot read. `image_id` is empty if podman does not name the image."""

    image_id: str
    words: str

    def __str__(self) -> str:
        if not self.image_id:
            return (
                f"podman cannot read one of its images, and does not say which: {self.words}; "
                "remove the one of which `podman image inspect ID` fails, with `podman rmi -f ID`"
            )
        return (
            f"podman cannot read image {self.image_id}: {self.words}; "
            f"`podman rmi -f {self.image_id}` removes it, then build or pull it again"
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of podman's store, as far as podman can read them, and what it says of the others."""

    images: tuple[Image, ...] = ()
    damage: tuple[Damage, ...] = ()


class Fidelity(StrEnum):
    """How near the served manifest is to podman's own."""

    EXACT = "exact"  # podman's own manifest, one of those that it has of the image
    CORRECTED = "corrected"  # podman's untrue media types were mended
    REBUILT = "rebuilt"  # the origin's compressed blobs no longer exist: same image ID, another digest


_REASONS = {
    Fidelity.EXACT: "podman's own manifest",
    Fidelity.CORRECTED: "podman labels its plain layers as compressed; the media types were corrected",
    Fidelity.REBUILT: "podman's manifest names compressed blobs that its store no longer has; the layers are plain",
}


class Keep(float):
    """How long, in seconds, a publication stays after its image has gone: 0 not at all, inf for good."""


NOT_KEPT = Keep(0)


@dataclass(frozen=True, slots=True)
class Publication:
    """One tag in the tree: what it shows, and where that came from.

    `name` is the podman name it was published for, `origins` every digest that podman knew its image by.
    `requested` says that an operator asked for it by hand, so that no rule withdraws it. `keep` is what
    the rules said when its image was last there, and `gone` when that had left, in seconds since the epoch.
    """

    reference: Reference
    descriptor: Descriptor
    source: Source
    fidelity: Fidelity
    name: str
    size: int
    published: float
    requested: bool = False
    origins: frozenset[Digest] = frozenset()
    keep: Keep = NOT_KEPT
    gone: float | None = None

    @property
    def reason(self) -> str:
        """Say in words why its fidelity is what it is, and which digests of podman's are not found here."""
        others = sorted(map(str, self.origins - {self.descriptor.digest}))
        if self.fidelity is not Fidelity.EXACT or not others:
            return _REASONS[self.fidelity]
        return (
            f"{_REASONS[self.fidelity]}; podman knows the image also by {', '.join(others)}, the digest of a list that "
            "it was pulled by or of another manifest, which is not served"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """One reference that should show one image, because of one podman name."""

    reference: Reference
    image: Image
    name: str
    requested: bool = False
    keep: Keep = NOT_KEPT


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass has to do. `publish` comes in order; what needs no export is first.

    `orphan` are references to mark as kept although their image has gone.
    """

    publish: tuple[Target, ...] = ()
    withdraw: tuple[Reference, ...] = ()
    orphan: tuple[Reference, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.publish or self.withdraw or self.orphan)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a tree shows, and which references are held out of it."""

    publications: Mapping[Reference, Publication] = field(default_factory=dict)
    held: frozenset[Reference] = frozenset()


def make_plan(wanted: Mapping[Reference, Target], shown: Shown, images: Iterable[Image], now: float) -> Plan:
    """Decide what makes the tree show `wanted`. `now` is in seconds since the epoch.

    A requested publication stays as long as its image is in the store, and wins over a rule. A held
    reference is not published. What is kept outlives its image for its time. New work comes smallest
    image first, so that quick ones show early.
    """
    present = {image.id for image in images}
    published = shown.publications
    requested = {
        reference
        for reference, publication in published.items()
        if publication.requested and publication.source.image_id in present
    }
    sources = {publication.source for publication in published.values()}
    publish = [
        target
        for reference, target in wanted.items()
        if reference not in shown.held and reference not in requested and differs(target, published.get(reference))
    ]
    publish.sort(key=lambda target: (target.image.source not in sources, target.image.size, target.reference))
    left = [
        publication
        for reference, publication in sorted(published.items())
        if reference not in requested and (reference in shown.held or reference not in wanted)
    ]
    kept = {one.reference for one in left if one.reference not in shown.held and (one.gone or now) + one.keep > now}
    return Plan(
        tuple(publish),
        tuple(item.reference for item in left if item.reference not in kept),
        tuple(item.reference for item in left if item.reference in kept and item.gone is None),
    )


def is_mass_withdrawal(plan: Plan, shown: Shown, limit: float) -> bool:
    """Say whether a plan withdraws more than the fraction `limit` of at least ten publications.

    So does a store that was wiped or is not mounted: it must not empty the registry.
    """
    count = len(shown.publications)
    return count >= _MANY and len(plan.withdraw) > limit * count


_MANY = 10


def differs(target: Target, publication: Publication | None) -> bool:
    """Say whether a publication is not, or not yet, what `target` is to be."""
    return (
        publication is None
        or publication.requested != target.requested
        or publication.source != target.image.source
        or publication.origins != target.image.digests
        or publication.keep != target.keep
        or publication.gone is not None
    )
