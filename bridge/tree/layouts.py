"""An OCI image layout of one image outside the repositories, for whoever looks at it before it is shown."""

from pathlib import Path

import msgspec

from bridge.oci import OCI_INDEX, Descriptor, Tag
from bridge.tree import disk
from bridge.tree.closures import Closures
from bridge.tree.paths import TreePaths

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
"""The content of `oci-layout` (image-spec v1.1.1, image-layout.md)."""


def link_layout(paths: TreePaths, descriptor: Descriptor, tag: Tag, directory: Path) -> None:
    """Make a layout in `directory`, on the tree's disk, that holds the image under its tag.

    Its blobs are hard links where the file system has them, and nothing of it is removed by a sweep meanwhile. Raises
    TreeError where the tree lacks a blob.
    """
    for part in Closures(paths).whole(descriptor):
        link = directory / "blobs" / part.digest.algorithm / part.digest.hex
        link.parent.mkdir(parents=True, exist_ok=True)
        disk.link(paths.blob(part.digest), link)
    entry = descriptor.to_json() | {"annotations": {"org.opencontainers.image.ref.name": tag.name}}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    (directory / "oci-layout").write_bytes(LAYOUT)
    (directory / "index.json").write_bytes(msgspec.json.encode(index))
