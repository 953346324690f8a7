"""Manifest lists: which images of the store are their members. Pure: bytes and values in, values out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import ExportError
from bridge.oci import Descriptor, Digest
from bridge.plan import Image
from bridge.publish.manifests import require_readable
from bridge.untrusted_json import decode
from bridge.untrusted_text import one_line


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a list: the image that has its manifest, and its platform in words."""

    descriptor: Descriptor
    image: Image
    platform: str


def members(content: bytes, image: Image, store: Iterable[Image]) -> Iterator[Member]:
    """Yield the members of a list, each once. All are found before the first is yielded.

    Raises ExportError that names the list's first member that is not in the store: a list is published
    whole or not at all. As `require_readable` raises, too.
    """
    manifest = require_readable(content, image)
    platforms = [_platform(entry) for entry in decode(content, "index").get("manifests") or ()]
    if not manifest.manifests:
        msg = f"manifest list {_called(image)} has no member yet; add one with `podman manifest add`"
        raise ExportError(msg)
    by_digest = {digest: one for one in store for digest in one.digests}
    by_digest |= {one.digest: one for one in store if one.digest is not None}
    found = []
    for descriptor, platform in zip(manifest.manifests, platforms, strict=True):
        one = by_digest.get(descriptor.digest)
        if one is None or one.id == image.id:
            msg = (
                f"manifest list {_called(image)} has member {descriptor.digest} ({platform}), which is not in "
                "podman's store: pull or build it, or take it out with `podman manifest remove`"
            )
            raise ExportError(msg)
        found.append(Member(descriptor, replace(one, digest=descriptor.digest), platform))
    return iter(found)


def require_exact(member: Member, served: Digest) -> None:
    """Raise ExportError where a member can only be served with another digest than its list names."""
    if served != member.descriptor.digest:
        msg = (
            f"member {member.descriptor.digest} ({member.platform}) was pulled compressed, and podman's store no "
            "longer has those bytes; build it here, or make the list from the images as podbridge serves them"
        )
        raise ExportError(msg)


def _called(image: Image) -> str:
    return image.names[0] if image.names else image.id[:12]


def _platform(entry: dict[str, Any]) -> str:
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return "no platform"
    parts = (platform.get(key) for key in ("os", "architecture", "variant"))
    return one_line("/".join(str(part) for part in parts if part), 100) or "no platform"
