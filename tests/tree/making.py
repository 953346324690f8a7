"""Making publications by hand, without podman."""

import time
from pathlib import Path

import msgspec

from bridge.oci import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor, Digest, Manifest, Reference
from bridge.plan import Fidelity, Publication, Source
from bridge.tree import disk
from bridge.tree.publisher import Tree


def put(tree: Tree, content: bytes, media_type: str) -> Descriptor:
    """Have a blob in the tree, verified and on the disk as an export has it."""
    with tree.stage() as directory:
        file = directory / "blob"
        file.write_bytes(content)
        digest, _ = disk.hash_file(file)
        tree.adopt(file, digest)
    return Descriptor(media_type, digest, len(content))


def image(tree: Tree, *layers: bytes, note: str = "") -> Descriptor:
    """Have an image in the tree: its layers, a config, a manifest."""
    config = put(tree, msgspec.json.encode({"note": note}), OCI_CONFIG)
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [put(tree, layer, OCI_LAYER).to_json() for layer in layers],
    }
    return put(tree, msgspec.json.encode(value), OCI_MANIFEST)


def index(tree: Tree, *members: Descriptor) -> Descriptor:
    """Have an index over manifests in the tree."""
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [member.to_json() for member in members]}
    return put(tree, msgspec.json.encode(value), OCI_INDEX)


def publication(reference: str, descriptor: Descriptor, *, requested: bool = False) -> Publication:
    """Describe a publication of what the tree holds."""
    source = Source(descriptor.digest.hex, descriptor.digest)
    return Publication(
        Reference.parse(reference),
        descriptor,
        source,
        Fidelity.EXACT,
        f"localhost/{reference}",
        descriptor.size,
        time.time(),
        requested,
    )


def whole(root: Path, descriptor: Descriptor, repository: str) -> bool:
    """Say whether a repository's image layout holds everything that a manifest references, byte by byte."""
    blobs = root / "repositories" / repository / "_oci" / "blobs"
    content = (blobs / descriptor.digest.algorithm / descriptor.digest.hex).read_bytes()
    if Digest.of(content) != descriptor.digest:
        return False
    if not descriptor.is_manifest:
        return True
    return all(whole(root, item, repository) for item in Manifest.parse(content).references)
