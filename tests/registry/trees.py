"""Trees made by the publisher's own hand."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bridge.oci import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    Reference,
)
from bridge.plan import Fidelity, Publication, Source
from bridge.tree.publisher import Tree

LAYER = {OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar", DOCKER_MANIFEST: "application/vnd.docker.layer.v1.tar"}


def add_blob(tree: Tree, content: bytes, media_type: str) -> Descriptor:
    """Put a blob into the tree, visible nowhere yet."""
    digest = Digest.of(content)
    with tree.stage() as directory:
        file = directory / "blob"
        file.write_bytes(content)
        tree.adopt(file, digest)
    return Descriptor(media_type, digest, len(content))


def manifest_of(tree: Tree, layers: tuple[bytes, ...], media_type: str = OCI_MANIFEST, **more: Any) -> bytes:
    """Put the layers and a config into the tree, and return a manifest of them; `more` overrides its fields."""
    described = [add_blob(tree, layer, LAYER[media_type]).to_json() for layer in layers]
    diff_ids = [layer["digest"] for layer in described]
    config = add_blob(tree, json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode(), OCI_CONFIG)
    value = {"schemaVersion": 2, "mediaType": media_type, "config": config.to_json(), "layers": described, **more}
    return json.dumps({key: item for key, item in value.items() if item is not None}).encode()


def index_of(tree: Tree, manifests: list[bytes], media_type: str = OCI_INDEX) -> bytes:
    """Put manifests into the tree, and return an index of them."""
    members = [add_blob(tree, content, json.loads(content)["mediaType"]).to_json() for content in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": members}).encode()


def publish(tree: Tree, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST) -> str:
    """Show a manifest under a reference, and return its digest."""
    return str(show(tree, reference, manifest, media_type).digest)


def show(tree: Tree, reference: str, manifest: bytes, media_type: str) -> Descriptor:
    """Show a manifest under a reference, and return its descriptor."""
    descriptor = add_blob(tree, manifest, media_type)
    source = Source(descriptor.digest.hex, descriptor.digest)
    name = f"localhost/{reference}"
    parsed = Reference.parse(reference)
    tree.publish(Publication(parsed, descriptor, source, Fidelity.EXACT, name, len(manifest), time.time()))
    return descriptor


@dataclass(frozen=True, slots=True)
class Shelf:
    """Publishes what a test needs into the tree at `root`."""

    root: Path

    @contextlib.contextmanager
    def _tree(self) -> Iterator[Tree]:
        with Tree(self.root) as tree:
            yield tree

    def blob(self, content: bytes, media_type: str = OCI_LAYER) -> dict[str, Any]:
        """Put a blob into the tree, and return its descriptor as JSON."""
        with self._tree() as tree:
            return add_blob(tree, content, media_type).to_json()

    def publish(self, reference: str, content: bytes, media_type: str = OCI_MANIFEST) -> Descriptor:
        """Publish the manifest `content`, whose references the tree holds already."""
        with self._tree() as tree:
            return show(tree, reference, content, media_type)

    def withdraw(self, reference: str) -> None:
        """Withdraw a publication."""
        with self._tree() as tree:
            tree.withdraw(Reference.parse(reference))

    def image(self, reference: str, *layers: bytes, **fields: Any) -> Descriptor:
        """Publish an image of these layers; `fields` replace or extend those of its manifest."""
        content = manifest(self.blob(b"{}", OCI_CONFIG), [self.blob(layer) for layer in layers], **fields)
        return self.publish(reference, content, fields.get("mediaType", OCI_MANIFEST))

    def put_sha512(self, repository: str, content: bytes) -> str:
        """Put a blob under its sha512 digest into a repository, as an import from elsewhere would."""
        digest = hashlib.sha512(content).hexdigest()
        directory = self.root / "repositories" / repository / "_oci" / "blobs" / "sha512"
        directory.mkdir(exist_ok=True)
        (directory / digest).write_bytes(content)
        return f"sha512:{digest}"


def manifest(config: dict[str, Any], layers: list[dict[str, Any]], **fields: Any) -> bytes:
    """Return the bytes of an image manifest."""
    value = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    return msgspec.json.encode(value | fields)
