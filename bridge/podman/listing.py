"""What podman's listing of images says, and how to ask for the sound ones if it fails. Pure: bytes in, values out.

podman 4.3.1 and 5.8.6 fail a whole listing for one image that they cannot read. They pass over it, if a filter says
so before they describe it (measured on both):

- `id!` leaves out images by ID: any number of them (5.8.6), or one (4.3.1, which joins several to one value).
- `label!` of a label that no image has makes podman look at each image, and drops those without a readable manifest
  (both) or with a missing layer (4.3.1). It fails for an image whose config is lost.
- `before` and `since` an image compare the times at which images were made, and read nothing: not even that image.

Filters of different keys hold together, in an order that changes from image to image.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

import msgspec

from bridge.errors import BadAnswerError, InvalidError, PodmanError
from bridge.oci import DOCKER_LIST, Digest
from bridge.plan import Image
from bridge.podman import bounds
from bridge.untrusted_json import decode

_NO_LABEL = "io.podbridge.none"
_NAMED = re.compile(r'image "?(?:with ID "?)?(?P<id>[0-9a-f]{64})\b')
_HEX = re.compile(r"\b[0-9a-f]{64}\b")

_EMPTY_LIST = Digest.of(msgspec.json.encode({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": None}))
"""What podman 4 shows as the digest of every manifest list: that of the list when it was made, empty. The
current one stands beside it in RepoDigests, and changes with every edit (measured, 4.3.1)."""


class _Listed(msgspec.Struct, rename="pascal"):
    """One image of a listing, as far as podbridge reads it."""

    id: str
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    is_manifest_list: bool = False
    digest: str | None = None
    labels: dict[str, str] | None = None
    size: int = 0
    created: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """The images that were made later than one and earlier than another, whose IDs these are; empty: no such end.

    `twin` names one instead: the span is of the others that were made at the very same time.
    """

    since: str = ""
    before: str = ""
    twin: str = ""

    @property
    def ends(self) -> frozenset[str]:
        """Return the IDs of the images at its ends, which are not in it."""
        return frozenset({self.since, self.before, self.twin} - {""})

    def around(self, image_id: str) -> tuple[Self, Self, Self]:
        """Return the spans that have all of its images but this one, the earliest first."""
        kind = type(self)
        return kind(self.since, image_id), kind(twin=image_id), kind(image_id, self.before)

    @property
    def path(self) -> str:
        """Return the path of a listing of the span."""
        filters = {"since": self.since, "before": self.before}
        filters |= {"since!": self.twin, "before!": self.twin, "id!": self.twin}
        return _path({key: [image_id] for key, image_id in filters.items() if image_id})


def path(without: Collection[str] = (), *, is_readable: bool = False) -> str:
    """Return the path of a listing without the images of these IDs.

    With `is_readable` podman drops what it cannot read.
    """
    filters = {"id!": sorted(without)} if without else {}
    filters |= {"label!": [_NO_LABEL]} if is_readable else {}
    return _path(filters)


def _path(filters: dict[str, list[str]]) -> str:
    return "/images/json" + (f"?filters={quote(json.dumps(filters))}" if filters else "")


def path_of(image: str) -> str:
    """Return the path of a listing of the one image of this ID or name."""
    key = "id" if _HEX.fullmatch(image) else "reference"
    return f"/images/json?all=true&filters={quote(json.dumps({key: [image]}))}"


def parse(content: bytes) -> tuple[Image, ...]:
    """Return the images of a listing; raise BadAnswerError for anything else."""
    try:
        entries = decode(content, "podman's listing of images", list[_Listed], limit=bounds.LISTING)
        return tuple(_image(entry) for entry in entries)
    except InvalidError as error:
        msg = f"podman's listing of images is not as expected: {error}"
        raise BadAnswerError(msg) from error


def culprit(error: PodmanError) -> str:
    """Return the ID of the image for which a listing failed, as far as podman's words name one."""
    words = str(error)
    if named := _NAMED.search(words):
        return named["id"]
    found = _HEX.findall(words)  # "config.json digest sha256:… does not match expected sha256:ID"
    return found[-1] if found else ""


def _image(entry: _Listed) -> Image:
    digest = Digest.parse(entry.digest) if entry.digest else None
    digests = frozenset(Digest.parse(text.rpartition("@")[2]) for text in entry.repo_digests or ())
    is_list = entry.is_manifest_list or digest == _EMPTY_LIST
    if digest == _EMPTY_LIST:
        digests -= {_EMPTY_LIST}
        digest = min(digests, default=digest)
    return Image(
        id=Digest.parse(f"sha256:{entry.id}").hex,
        names=tuple(entry.repo_tags or ()),
        digest=digest,
        digests=digests,
        is_list=is_list,
        labels=entry.labels or {},
        size=entry.size,
        created=entry.created,
    )
