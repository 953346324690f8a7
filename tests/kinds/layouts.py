"""Images written by hand as `dir:` layouts: what no builder makes, and quicker than one."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge import oci

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
EMPTY_TAR = b"\0" * 1024


def digest(content: bytes) -> str:
    """Return the digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its bytes as the manifest names them, and what else its descriptor says."""

    content: bytes
    media_type: str = oci.OCI_LAYER
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bytes:
        """The tar of the layer."""
        return gzip.decompress(self.content) if self.content.startswith(b"\x1f\x8b") else self.content

    def gzipped(self) -> "Layer":
        """Return the layer compressed."""
        media_type = f"{self.media_type}{'.' if 'docker' in self.media_type else '+'}gzip"
        return Layer(gzip.compress(self.content, mtime=0), media_type, self.more)


def tar(seed: str, files: int = 1) -> bytes:
    """Return a tar with a directory and files of many modes and owners, unlike that of any other seed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        directory = tarfile.TarInfo(seed)
        directory.type, directory.mode, directory.uid, directory.gid = tarfile.DIRTYPE, 0o2750, 1234, 5678
        directory.mtime = 1_600_000_000
        archive.addfile(directory)
        for number in range(files):
            content = f"{seed} {number}\n".encode() * 50
            file = tarfile.TarInfo(f"{seed}/{number}")
            file.size, file.mode, file.uid, file.gid = len(content), 0o4711, 1000 + number, 7
            file.mtime = 1_600_000_001
            archive.addfile(file, io.BytesIO(content))
        link = tarfile.TarInfo(f"{seed}/link")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "0", 1_600_000_002
        archive.addfile(link)
    return buffer.getvalue()


def config(layers: Sequence[Layer], **fields: Any) -> bytes:
    """Return the config of an image with those layers."""
    plain = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]}}
    roots = {"rootfs": {"type": "layers", "diff_ids": [digest(layer.plain) for layer in layers]}}
    return json.dumps({**plain, **roots, **fields}).encode()


def write(directory: Path, layers: Sequence[Layer], content: bytes | None = None, **fields: Any) -> str:
    """Write a `dir:` layout and return its manifest's digest; `fields` go into the manifest."""
    directory.mkdir()
    content = config(layers) if content is None else content
    docker = fields.get("mediaType") == oci.DOCKER_MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG if docker else oci.OCI_CONFIG, **_put(directory, content)},
        "layers": [{"mediaType": layer.media_type, **_put(directory, layer.content), **layer.more} for layer in layers],
        **fields,
    }
    encoded = json.dumps(manifest).encode()
    (directory / "manifest.json").write_bytes(encoded)
    (directory / "version").write_text("Directory Transport Version: 1.1\n", encoding="ascii")
    return digest(encoded)


def _put(directory: Path, content: bytes) -> dict[str, Any]:
    name = digest(content)
    (directory / name.removeprefix("sha256:")).write_bytes(content)
    return {"size": len(content), "digest": name}
