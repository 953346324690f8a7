"""Choosing the manifest that is served, true to the bytes. Pure: bytes and values in, bytes out."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.errors import ExportError, InvalidError, UnsupportedError
from bridge.oci import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Digest, Manifest, plain_media_type
from bridge.plan import Fidelity, Image
from bridge.untrusted_json import decode

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


_FIELDS = {
    name.casefold(): name
    for name in (
        *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"),
        *("digest", "size", "urls", "data", "platform"),
    )
}
"""What manifests and descriptors are made of, by how Go's decoder knows them: whatever their case."""


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
    first. Podman's bytes are served as they are wherever they are true, those with the image's digest
    before others: an earlier manifest only if it says the same of the image. Otherwise the layers' media
    types, digests and sizes are mended and nothing else: podman 4 labels plain tar as gzip or zstd, and
    the manifest of a pulled image names compressed blobs that no longer exist. Raises ExportError where
    no manifest belongs to the image, and UnsupportedError if the current one cannot be read.
    """
    for content in stored[:1]:
        require_readable(content, image)
    own = [content for content in (saved, *stored) if content is not None and _belongs(content, image, layers)]
    if not own:
        msg = f"podman has no manifest of image {image.id[:12]} with {len(layers)} layers"
        raise ExportError(msg)
    own.sort(key=lambda content: (Digest.of(content) != image.digest, content == saved))
    best, known = own[0], image.digests | {image.digest}
    for content in own:
        is_own = content in stored or Digest.of(content) in known
        if is_own and _says(content) == _says(best) and _mend(content, layers) == content:
            return content, Fidelity.EXACT
    is_stored = best in stored or Digest.of(best) in known
    same_bytes = [layer.digest for layer in Manifest.parse(best).layers] == [layer.digest for layer in layers]
    return _mend(best, layers), Fidelity.CORRECTED if is_stored and same_bytes else Fidelity.REBUILT


def require_readable(content: bytes, image: Image, *written: Digest) -> Manifest:
    """Return the manifest that is in `content`. Raises ExportError where it is none, or not the same to all readers.

    Bytes with a digest by which podman knows the image, or under which it has `written` them, are no damage: no
    second try changes them, and the error is an UnsupportedError.
    """
    try:
        manifest = Manifest.parse(content)
        _require_one_spelling(manifest, decode(content, "manifest"))
    except InvalidError as error:
        is_own = Digest.of(content) in {image.digest, *image.digests, *written}
        kind = UnsupportedError if is_own else ExportError
        msg = f"image {image.id[:12]} has a manifest that cannot be served: {error}"
        raise kind(msg) from error
    return manifest


def _require_one_spelling(manifest: Manifest, value: Mapping[str, Any]) -> None:
    """Raise InvalidError for a field that podman takes for another one, and that readers who mind case pass over."""
    parts = [value, *([value["config"]] if manifest.config else ()), *(value["layers"] if manifest.layers else ())]
    for key in itertools.chain.from_iterable(parts):
        if _FIELDS.get(key.casefold(), key) != key:
            msg = f"field {key[:40]!r} is {_FIELDS[key.casefold()]!r} to some clients, and nothing to others"
            raise InvalidError(msg)


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


def require_layers(image: Image, diff_ids: Sequence[Digest], saved: bytes) -> None:
    """Raise UnsupportedError where the layers that podman wrote are not those that the image's config names.

    `saved` is the manifest of an export, whose layers are plain. Every client that verifies a config refuses such an
    image: podman 5, skopeo, containerd, Docker (podman 5.8.6: "does not match config's DiffID"). podman 4 pulls it.
    """
    named = [layer.digest for layer in Manifest.parse(saved).layers]
    require_diff_ids(image, diff_ids, named)


def require_diff_ids(image: Image, diff_ids: Sequence[Digest], named: Sequence[Digest]) -> None:
    """Raise UnsupportedError where `named`, the digests of the plain layers, are not the config's diff_ids."""
    if len(named) != len(diff_ids):
        msg = (
            f"the config of image {image.id[:12]} names {len(diff_ids)} layers (diff_ids) and its manifest "
            f"{len(named)}: it is no image that can be run, and is not published"
        )
        raise UnsupportedError(msg)
    for diff_id, digest in zip(diff_ids, named, strict=True):
        if digest != diff_id:
            msg = (
                f"the config of image {image.id[:12]} names layer {diff_id} (diff_ids), but that layer as a plain tar "
                f"has digest {digest}: clients that verify it refuse such an image. podman 4 makes them of compressed "
                "tars that are not gzip, and of zstd:chunked layers: import the decompressed tar, build or pull again"
            )
            raise UnsupportedError(msg)


def _belongs(content: bytes, image: Image, layers: Sequence[Layer]) -> bool:
    try:
        manifest = Manifest.parse(content)
    except InvalidError:
        return False
    config = manifest.config
    return config is not None and config.digest.hex == image.id and len(manifest.layers) == len(layers)


def _says(content: bytes) -> list[object]:
    """Return what a manifest says of its image, whatever the form of its layers."""
    value = decode(content, "manifest")
    return [value.get("annotations") or {}, value.get("subject"), value.get("artifactType")]


def _mend(content: bytes, layers: Sequence[Layer]) -> bytes:
    """Make the manifest name `layers`, plain; the very same bytes where it does already."""
    value = decode(content, "manifest")
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
