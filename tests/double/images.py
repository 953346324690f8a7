"""Images as podman would build them: layers as plain tar, a config, an OCI or docker manifest. Pure."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"

_CONFIG = {OCI: "application/vnd.oci.image.config.v1+json", DOCKER: "application/vnd.docker.container.image.v1+json"}
_LAYER = {OCI: "application/vnd.oci.image.layer.v1.tar", DOCKER: "application/vnd.docker.image.rootfs.diff.tar"}


def layer(files: Mapping[str, bytes]) -> bytes:
    """Return a layer with these files: the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def text_layer(text: str, size: int = 0) -> bytes:
    """Return a layer with one file that begins with `text` and has at least `size` bytes."""
    return layer({"file": text.encode().ljust(size, b".")})


def hexdigest(content: bytes) -> str:
    """Return the hex part of the sha256 digest."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Made:
    """An image's bytes."""

    layers: tuple[bytes, ...]
    config: bytes
    manifest: bytes
    media_type: str = OCI
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The image ID."""
        return hexdigest(self.config)

    @property
    def digest(self) -> str:
        """What podman shows as the image's digest."""
        return f"sha256:{hexdigest(self.manifest)}"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The hex of every layer's diffID, in order."""
        return tuple(hexdigest(content) for content in self.layers)


def make(
    layers: Sequence[bytes],
    *,
    labels: Mapping[str, str] | None = None,
    note: str = "",
    media_type: str = OCI,
    annotations: Mapping[str, str] | None = None,
) -> Made:
    """Make an image; another `note` makes another image of the same layers, other `annotations` another manifest."""
    config = encode(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": dict(labels or {}), "Healthcheck": {"Test": ["NONE"]}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hexdigest(content)}" for content in layers]},
            "history": [{"comment": note}],
        }
    )
    manifest = manifest_of(config, layers, media_type, annotations)
    return Made(tuple(layers), config, manifest, media_type, dict(labels or {}))


def manifest_of(
    config: bytes, layers: Sequence[bytes], media_type: str = OCI, annotations: Mapping[str, str] | None = None
) -> bytes:
    """Return the manifest that names this config and these layers."""
    more = {"annotations": dict(annotations)} if annotations else {}
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config, _CONFIG[media_type]),
            "layers": [descriptor(content, _LAYER[media_type]) for content in layers],
            **more,
        }
    )


def descriptor(content: bytes, media_type: str) -> dict[str, object]:
    """Return the descriptor of a blob, in the order that podman writes it: docker's has the size first."""
    size, digest = ("size", len(content)), ("digest", f"sha256:{hexdigest(content)}")
    return {"mediaType": media_type, **dict((size, digest) if "docker" in media_type else (digest, size))}


def encode(value: object) -> bytes:
    """Return a value as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
