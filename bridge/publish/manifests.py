"""Choosing the manifest that is served, true to the bytes. Pure: bytes and values in, bytes out."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bridge.errors import ExportError, InvalidError, UnsupportedError
from bridge.oci import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Digest, Manifest, plain_media_type
from bridge.plan import Fidelity, Image
from bridge.untrusted_json import decode

_CHUNKED = ("io.containers.zstd-chunked.", "io.github.containers.zstd-chunked.")
"""Annotations that describe compressed bytes: untrue of a plain layer."""


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed layer as it is in the tree: its digest is its diffID; `size` is in bytes."""

    digest: Digest
    size: int


def choose(
    image: Image, layers: Sequence[Layer], saved: bytes | None, stored: Sequence[bytes]
) -> tuple[bytes, Fidelity]:
    """Return the manifest to serve for an image with exactly `layers`, and how near it is to podman's own.

    `saved` is what an export wrote, `stored` what podman's store holds, the image's current manifest
    first. Podman's bytes are served as they are wherever they are true, those with the digest that
    podman shows before others. Otherwise the layers' media types, digests and sizes are mended and
    nothing else: podman 4 labels plain tar as gzip or zstd, and the manifest of a pulled image names
    compressed blobs that no longer exist. Raises ExportError where no manifest belongs to the image, and
    UnsupportedError where the current one is what podman names and cannot be read.
    """
    for content in stored[:1]:
        require_readable(content, image)
    own = [content for content in (saved, *stored) if content is not None and _belongs(content, image, layers)]
    if not own:
        msg = f"podman has no manifest of image {image.id[:12]} with {len(layers)} layers"
        raise ExportError(msg)
    own.sort(key=lambda content: (Digest.of(content) != image.digest, content == saved))
    for content in own:
        if (content in stored or Digest.of(content) == image.digest) and _mend(content, layers) == content:
            return content, Fidelity.EXACT
    best = own[0]
    is_stored = best in stored or Digest.of(best) == image.digest
    same_bytes = [layer.digest for layer in Manifest.parse(best).layers] == [layer.digest for layer in layers]
    return _mend(best, layers), Fidelity.CORRECTED if is_stored and same_bytes else Fidelity.REBUILT


def require_readable(content: bytes, image: Image) -> Manifest:
    """Return the manifest that is in `content`. Raises ExportError where it is none.

    Bytes with a digest by which podman knows the image are the image's own and no damage: no second try changes
    them, and the error is an UnsupportedError.
    """
    try:
        return Manifest.parse(content)
    except InvalidError as error:
        is_own = Digest.of(content) in {image.digest, *image.digests}
        kind = UnsupportedError if is_own else ExportError
        msg = f"image {image.id[:12]} has a manifest that cannot be served: {error}"
        raise kind(msg) from error


def docker(config: bytes, layers: Sequence[Layer]) -> bytes:
    """Return the manifest that podman and buildah store for a docker-format image that was built with them.

    Whether it is the very one, its digest tells.
    """
    entries = [(DOCKER_LAYER, layer.size, layer.digest) for layer in layers]
    entries.insert(0, (DOCKER_CONFIG, len(config), Digest.of(config)))
    first, *others = (
        {"mediaType": media_type, "size": size, "digest": str(digest)} for media_type, size, digest in entries
    )
    value = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": first, "layers": others}
    return msgspec.json.encode(value)


def _belongs(content: bytes, image: Image, layers: Sequence[Layer]) -> bool:
    try:
        manifest = Manifest.parse(content)
    except InvalidError:
        return False
    config = manifest.config
    return config is not None and config.digest.hex == image.id and len(manifest.layers) == len(layers)


def _mend(content: bytes, layers: Sequence[Layer]) -> bytes:
    """Make the manifest name `layers`, plain; the very same bytes where it does already."""
    value = decode(content, "manifest")
    changed = False
    for entry, layer in zip(value.get("layers") or (), layers, strict=True):
        truth = {"mediaType": plain_media_type(entry["mediaType"]), "digest": str(layer.digest), "size": layer.size}
        if any(entry[key] != truth[key] for key in truth):
            changed = True
            if entry["digest"] != truth["digest"]:
                entry.pop("urls", None)  # they lead to the bytes of the other digest
            entry.update(truth)
            _drop_chunked(entry)
    return msgspec.json.encode(value) if changed else content


def _drop_chunked(entry: dict[str, object]) -> None:
    notes = entry.get("annotations")
    if isinstance(notes, dict):
        kept = {key: value for key, value in notes.items() if not str(key).startswith(_CHUNKED)}
        entry.pop("annotations")
        if kept:
            entry["annotations"] = kept
