"""The manifest that is served is podman's own wherever that is true, and true to the bytes everywhere."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bridge.errors import ExportError
from bridge.oci import (
    DOCKER_LAYER,
    DOCKER_LAYER_FOREIGN,
    DOCKER_MANIFEST,
    OCI_LAYER,
    OCI_LAYER_NONDISTRIBUTABLE,
    Digest,
)
from bridge.plan import Fidelity, Image
from bridge.publish.manifests import Layer, choose

CONFIG = Digest.of(b"config")
LAYERS = [Layer(Digest.of(b"one"), 3), Layer(Digest.of(b"two"), 3)]


def manifest(layers: Sequence[Layer], media_type: str = OCI_LAYER, **more: Any) -> bytes:
    entries = [{"mediaType": media_type, "digest": str(layer.digest), "size": layer.size} for layer in layers]
    value = {"schemaVersion": 2, "config": {"mediaType": "c", "digest": str(CONFIG), "size": 6}, "layers": entries}
    return msgspec.json.encode(value | more)


def image(digest: Digest | None) -> Image:
    return Image(CONFIG.hex, ("localhost/app:1",), digest)


def compressed(content: bytes) -> list[Layer]:
    return [Layer(Digest.of(content + layer.digest.hex.encode()), 1) for layer in LAYERS]


def test_a_saved_manifest_with_the_shown_digest_is_served_as_it_is() -> None:
    saved = manifest(LAYERS)
    assert choose(image(Digest.of(saved)), LAYERS, saved, []) == (saved, Fidelity.EXACT)


def test_a_stored_manifest_that_is_true_is_served_as_it_is() -> None:
    stored = manifest(LAYERS, DOCKER_LAYER, mediaType=DOCKER_MANIFEST)
    assert choose(image(Digest.of(stored)), LAYERS, manifest(LAYERS), [stored]) == (stored, Fidelity.EXACT)


def test_of_two_stored_manifests_the_one_with_the_shown_digest_is_served() -> None:
    current, shown = manifest(LAYERS, annotations={"a": "1"}), manifest(LAYERS)
    assert choose(image(Digest.of(shown)), LAYERS, None, [current, shown]) == (shown, Fidelity.EXACT)


def test_of_two_manifests_that_say_something_else_the_current_one_is_served_also_if_it_has_to_be_mended() -> None:
    earlier = manifest(LAYERS, annotations={"is": "A"})
    current = manifest(compressed(b"z"), OCI_LAYER + "+gzip", annotations={"is": "B"})
    content, fidelity = choose(image(Digest.of(current)), LAYERS, None, [current, earlier])
    assert (content, fidelity) == (manifest(LAYERS, annotations={"is": "B"}), Fidelity.REBUILT)


def test_of_two_manifests_that_say_the_same_the_true_one_is_served() -> None:
    earlier = manifest(LAYERS, annotations={"is": "A"})
    current = manifest(compressed(b"z"), OCI_LAYER + "+gzip", annotations={"is": "A"})
    assert choose(image(Digest.of(current)), LAYERS, None, [current, earlier]) == (earlier, Fidelity.EXACT)


def test_over_rest_a_manifest_with_one_of_podmans_digests_is_podmans_own() -> None:
    saved = manifest(LAYERS, annotations={"is": "B"})
    known = replace(image(None), digests=frozenset({Digest.of(saved), Digest.of(b"another")}), form="B")
    assert choose(known, LAYERS, saved, []) == (saved, Fidelity.EXACT)


def test_untrue_media_types_are_corrected_and_nothing_else_is_touched() -> None:
    stored = manifest(LAYERS, OCI_LAYER + "+gzip", annotations={"kept": "yes"}, subject=None)
    content, fidelity = choose(image(Digest.of(stored)), LAYERS, None, [stored])
    assert fidelity is Fidelity.CORRECTED
    expected = msgspec.json.decode(stored)
    for entry in expected["layers"]:
        entry["mediaType"] = OCI_LAYER
    assert msgspec.json.decode(content) == expected


@pytest.mark.parametrize(("suffix", "base"), [("+gzip", OCI_LAYER), ("+zstd", OCI_LAYER), (".gzip", DOCKER_LAYER)])
def test_a_manifest_of_compressed_blobs_is_rebuilt_over_the_plain_ones(suffix: str, base: str) -> None:
    stored = manifest(compressed(b"z"), base + suffix)
    content, fidelity = choose(image(Digest.of(stored)), LAYERS, None, [stored])
    assert fidelity is Fidelity.REBUILT
    assert content == manifest(LAYERS, base)


def test_annotations_of_compressed_bytes_are_dropped_from_a_rebuilt_layer() -> None:
    value = msgspec.json.decode(manifest(compressed(b"z"), OCI_LAYER + "+zstd"))
    value["layers"][0]["annotations"] = {"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"}
    value["layers"][1]["annotations"] = {"io.containers.zstd-chunked.x": "1", "kept": "yes"}
    content, _ = choose(image(None), LAYERS, None, [msgspec.json.encode(value)])
    first, second = msgspec.json.decode(content)["layers"]
    assert "annotations" not in first
    assert second["annotations"] == {"kept": "yes"}


SUFFIXES = [
    "+gzip",
    "+zstd",
    ".gzip",
    ".zstd",
    "+bz2",
    "+zstd:chunked",
    "+encrypted",
    "+gzip+encrypted",
    ".gzip+encrypted",
]
SUFFIXES += ["+zstd+encrypted", "+lz4", ".xz", "+gzip;level=9", "+", "+newer.kind-1"]
TARS = [OCI_LAYER, OCI_LAYER_NONDISTRIBUTABLE, DOCKER_LAYER, DOCKER_LAYER_FOREIGN, "application/vnd.example.root.tar"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("tar", TARS)
def test_whatever_a_plain_tar_was_packed_in_it_is_labelled_plain_in_its_own_family(tar: str, suffix: str) -> None:
    stored = manifest(LAYERS, tar + suffix)
    assert choose(image(Digest.of(stored)), LAYERS, None, [stored]) == (manifest(LAYERS, tar), Fidelity.CORRECTED)


@pytest.mark.parametrize(
    "media_type",
    [
        *TARS,
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.example.start+gzip",
        "application/vnd.example.tarball+gzip",
        "application/octet-stream",
        "",
    ],
)
def test_a_media_type_that_is_plain_or_names_no_tar_is_left_as_it_is(media_type: str) -> None:
    stored = manifest(LAYERS, media_type)
    assert choose(image(Digest.of(stored)), LAYERS, None, [stored]) == (stored, Fidelity.EXACT)


OF_PACKED_BYTES = [
    "org.opencontainers.image.enc.keys.jwe",
    "org.opencontainers.image.enc.keys.provider.example",
    "org.opencontainers.image.enc.pubopts",
    "io.github.containers.zstd-chunked.manifest-checksum",
    "io.github.containers.zstd-chunked.tarsplit-position",
    "io.containers.zstd-chunked.manifest-position",
    "io.containers.estargz.uncompressed-size",
    "containerd.io/snapshot/stargz/toc.digest",
    "containerd.io/snapshot/remote/stargz.prefetch",
]


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd+encrypted"])
@pytest.mark.parametrize("key", OF_PACKED_BYTES)
def test_what_is_said_of_packed_bytes_is_never_said_of_a_plain_layer(key: str, suffix: str) -> None:
    value = msgspec.json.decode(manifest(LAYERS, OCI_LAYER + suffix))
    value["layers"][0]["annotations"] = {key: "1"}
    value["layers"][1]["annotations"] = {"org.opencontainers.image.encyclopedia": "kept", key: "1"}
    stored = msgspec.json.encode(value)
    content, fidelity = choose(image(Digest.of(stored)), LAYERS, None, [stored])
    first, second = msgspec.json.decode(content)["layers"]
    assert fidelity is Fidelity.CORRECTED
    assert "annotations" not in first
    assert second["annotations"] == {"org.opencontainers.image.encyclopedia": "kept"}


def test_what_a_descriptor_says_of_the_bytes_that_are_gone_goes_with_them() -> None:
    gone = compressed(b"z")
    value = msgspec.json.decode(manifest(gone, OCI_LAYER + "+gzip"))
    value["layers"][0] |= {"urls": ["https://example.com/l"], "data": "eg==", "platform": {"os": "linux"}}
    value["layers"][0]["annotations"] = {"com.example/blob-digest": str(gone[0].digest), "com.example/from": "x"}
    content, _ = choose(image(None), LAYERS, None, [msgspec.json.encode(value)])
    assert msgspec.json.decode(content)["layers"][0] == {
        "mediaType": OCI_LAYER,
        "digest": str(LAYERS[0].digest),
        "size": 3,
        "platform": {"os": "linux"},
        "annotations": {"com.example/from": "x"},
    }


def test_a_layer_that_is_true_keeps_its_urls_and_data() -> None:
    value = msgspec.json.decode(manifest(LAYERS, OCI_LAYER_NONDISTRIBUTABLE))
    value["layers"][0] |= {"urls": ["https://example.com/l"], "data": "b25l"}
    value["layers"][0]["annotations"] = {"com.example/blob-digest": str(LAYERS[0].digest)}
    stored = msgspec.json.encode(value)
    assert choose(image(Digest.of(stored)), LAYERS, None, [stored]) == (stored, Fidelity.EXACT)


def test_a_saved_manifest_that_podman_mislabels_is_rebuilt_where_nothing_is_stored() -> None:
    saved = manifest(LAYERS, OCI_LAYER + "+zstd")
    content, fidelity = choose(image(Digest.of(b"origin")), LAYERS, saved, [])
    assert (content, fidelity) == (manifest(LAYERS), Fidelity.REBUILT)


def test_the_same_layer_twice_stays_twice() -> None:
    twice = [LAYERS[0], LAYERS[0]]
    saved = manifest(twice)
    assert choose(image(Digest.of(saved)), twice, saved, []) == (saved, Fidelity.EXACT)


@pytest.mark.parametrize("content", [b"", b"{}", manifest(LAYERS[:1])])
def test_a_manifest_of_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(ExportError):
        choose(image(Digest.of(content)), LAYERS, content, [])


def test_a_manifest_of_another_image_is_refused() -> None:
    with pytest.raises(ExportError):
        choose(Image("0" * 64), LAYERS, manifest(LAYERS), [])
