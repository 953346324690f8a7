"""Choosing the manifest that is served, true to the bytes. Pure: bytes and values in, bytes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.errors import ExportError, InvalidError
from bridge.oci import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Digest, Manifest, plain_media_type
from bridge.plan import Fidelity, Image

_OF_PACKED_BYTES = (
    "io.containers.zstd-chunked.",
    "io.github.containers.zstd-chunked.",
    "io.containers.estargz.",
    "containerd.io/snapshot/stargz",
    "containerd.io/snapshot/remote/stargz",
    "org.opencontainers.image.enc.",
)
"""Beginnings of the annotations that describe compressed or encrypted bytes, never true of a plain layer: positions and
checksums of zstd:chunked (containers/storage) and eStargz (containerd/stargz-snapshotter), keys of ocicrypt."""


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
    compressed blobs that no longer exist. Raises ExportError where no manifest belongs to the image.
    """
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
    value = msgspec.json.decode(content)
    entries = value.get("layers") or ()
    mended = [_plain(entry, layer) for entry, layer in zip(entries, layers, strict=True)]
    if mended == list(entries):
        return content
    return msgspec.json.encode(value | {"layers": mended})


def _plain(entry: dict[str, Any], layer: Layer) -> dict[str, Any]:
    """Return the descriptor of a layer, true of the plain tar: what was said of other bytes goes."""
    truth = {"mediaType": plain_media_type(entry["mediaType"]), "digest": str(layer.digest), "size": layer.size}
    mended = entry | truth
    if mended != entry:
        for of_other_bytes in ("urls", "data"):
            mended.pop(of_other_bytes, None)
    notes = entry.get("annotations")
    if isinstance(notes, dict):
        kept = {key: note for key, note in notes.items() if not _is_of_other_bytes(key, note, entry, layer)}
        if kept != notes:
            mended.pop("annotations")
            mended |= {"annotations": kept} if kept else {}
    return mended


def _is_of_other_bytes(key: str, note: object, entry: dict[str, Any], layer: Layer) -> bool:
    """Return True if an annotation describes packed bytes, or names the bytes that the layer took the place of."""
    return key.startswith(_OF_PACKED_BYTES) or note == entry["digest"] != str(layer.digest)
