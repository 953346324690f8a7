"""What is seen of a served image: over HTTP byte by byte, and by the programs that pull it."""

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from bridge import oci
from tests.end_to_end.programs import run
from tests.end_to_end.services import Client, Service
from tests.end_to_end.stores import Store, survey
from tests.kinds.layouts import digest

Files = dict[str, tuple[object, ...]]
"""What a file system says of files, by their names."""

_COMPRESSED = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Image:
    """A served image, every byte of it fetched and hashed."""

    digest: str
    manifest: dict[str, Any]
    config: bytes
    layers: tuple[bytes, ...]

    @property
    def id(self) -> str:
        """Podman's ID of it."""
        return digest(self.config).removeprefix("sha256:")


def manifest(client: Client, repository: str, reference: str) -> tuple[bytes, dict[str, Any]]:
    """Fetch a manifest or an index, and see that its headers are true to its bytes."""
    answer = client.get(f"/v2/{repository}/manifests/{reference}")
    assert answer.status == 200, answer
    assert answer.digest == digest(answer.body)
    content = answer.json
    assert answer.headers["content-type"] == content.get("mediaType", oci.OCI_MANIFEST)
    return answer.body, content


def image(client: Client, repository: str, reference: str) -> Image:
    """Fetch an image whole, and see that each of its parts is what the others say of it."""
    encoded, content = manifest(client, repository, reference)
    config = _blob(client, repository, content["config"])
    layers = tuple(_blob(client, repository, layer) for layer in content.get("layers") or ())
    for descriptor, layer in zip(content.get("layers") or (), layers, strict=True):
        assert not layer.startswith(_COMPRESSED)
        assert descriptor["mediaType"].endswith(".tar"), "the layer is a plain tar"
        assert not any(
            "enc." in key or "chunked" in key or "stargz" in key for key in descriptor.get("annotations", ())
        )
        if layer:
            tarfile.open(fileobj=BytesIO(layer), mode="r:").close()
    roots = json.loads(config)["rootfs"]["diff_ids"] or []
    assert roots == [digest(layer) for layer in layers]
    return Image(digest(encoded), content, config, layers)


def _blob(client: Client, repository: str, descriptor: dict[str, Any]) -> bytes:
    answer = client.get(f"/v2/{repository}/blobs/{descriptor['digest']}")
    assert answer.status == 200, answer
    assert (digest(answer.body), len(answer.body)) == (descriptor["digest"], descriptor["size"])
    return answer.body


def names(image: Image) -> set[str]:
    """Return the names of all files of an image."""
    found: set[str] = set()
    for layer in image.layers:
        if layer:
            with tarfile.open(fileobj=BytesIO(layer), mode="r:") as archive:
                found |= {name.strip("/") for name in archive.getnames()}
    return found - {"", "."}


def files(store: Store, names: Mapping[str, str]) -> dict[str, Files]:
    """Return what podman mounts of images, under the keys of `names`; nothing for one without layers."""
    told = json.loads(store.podman("image", "inspect", *names.values()))
    layered = [name for name, one in zip(names.values(), told, strict=True) if one["RootFS"].get("Layers")]
    try:
        mounts = json.loads(store.podman("image", "mount", "--format", "json", *layered))
        places = {name: Path(mount["mountpoint"]) for mount in mounts for name in mount["Repositories"]}
        return {key: survey(places[name]) if name in layered else {} for key, name in names.items()}
    finally:
        store.podman("image", "umount", "--all")


def view(service: Service, reference: str) -> dict[str, Any]:
    """Return what `podbridge list` says of one reference."""
    (found,) = [one for one in views(service) if one["reference"] == reference]
    return found


def views(service: Service, *words: str) -> list[dict[str, Any]]:
    """Return what `podbridge list` says."""
    told: list[dict[str, Any]] = json.loads(service.tell("list", "--json", *words))
    return told


def pull(store: Store, name: str) -> str:
    """Pull an image with podman; return its ID."""
    return store.podman("pull", "--quiet", "--tls-verify=false", name)


def copy(store: Store, name: str) -> str:
    """Copy an image out of a registry into a store with skopeo, with its digests kept; return its name there."""
    there = store.skopeo_name("localhost/copied:1")
    run("skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", f"docker://{name}", there)
    return there


def raw(name: str, *words: str) -> str:
    """Return the digest of what `skopeo inspect --raw` prints."""
    return digest(run("skopeo", "inspect", "--raw", "--tls-verify=false", *words, name).encode())
