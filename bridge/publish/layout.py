"""Reading what podman exported: the one image of an OCI layout, or of a `docker-dir`. Everything is checked."""

from pathlib import Path

import msgspec

from bridge.errors import ExportError, InvalidError
from bridge.oci import Descriptor, Digest
from bridge.plan import Image
from bridge.publish.manifests import require_readable
from bridge.untrusted_json import decode


class _Listed(msgspec.Struct, rename="pascal"):
    """One image of a docker archive."""

    layers: list[str] | None = None


def read(layout: Path, image: Image) -> tuple[bytes, bytes]:
    """Return manifest and config of the one image in an OCI layout; raise ExportError where they are damaged.

    As `require_readable` raises, too.
    """
    try:
        entries = decode((layout / "index.json").read_bytes(), "index.json")["manifests"]
        if len(entries) != 1:
            msg = f"podman wrote {len(entries)} manifests where one was asked for"
            raise ExportError(msg)
        written = Descriptor.from_json(entries[0])
        manifest = _blob(layout, written)
        config = require_readable(manifest, image, written.digest).config
        if config is None:
            msg = "podman wrote a list of manifests where an image was asked for"
            raise ExportError(msg)
        return manifest, _blob(layout, config)
    except FileNotFoundError as error:
        msg = f"podman's export is cut short: {error.filename} is missing"
        raise ExportError(msg) from error
    except (KeyError, TypeError, InvalidError) as error:
        msg = f"podman's export is damaged: {error!r}"
        raise ExportError(msg) from error


def read_docker(directory: Path, image: Image) -> tuple[bytes, bytes]:
    """Return config and manifest of a `docker-dir` export, whose files are named by their hex."""
    try:
        return (directory / image.id).read_bytes(), (directory / "manifest.json").read_bytes()
    except FileNotFoundError as error:
        msg = f"podman's export is cut short: {error.filename} is missing"
        raise ExportError(msg) from error


def read_docker_layers(layout: Path) -> list[Digest]:
    """Return the digests of the layers of a docker archive, in order, as its `manifest.json` lists them."""
    try:
        (listed,) = decode((layout / "manifest.json").read_bytes(), "manifest.json of podman's export", list[_Listed])
        return [Digest.parse(f"sha256:{name.removesuffix('.tar')}") for name in listed.layers or ()]
    except FileNotFoundError as error:
        msg = f"podman's export is cut short: {error.filename} is missing"
        raise ExportError(msg) from error
    except (InvalidError, ValueError) as error:
        msg = f"podman's export is damaged: {error}"
        raise ExportError(msg) from error


def _blob(layout: Path, descriptor: Descriptor) -> bytes:
    content = (layout / "blobs" / descriptor.digest.algorithm / descriptor.digest.hex).read_bytes()
    if Digest.of(content) != descriptor.digest:
        msg = f"podman's export is damaged: blob {descriptor.digest} has digest {Digest.of(content)}"
        raise ExportError(msg)
    return content
