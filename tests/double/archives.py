"""The archives that the double's service exports, and what can be wrong with them."""

import io
import tarfile
from typing import Any

from tests.double import images
from tests.double.faults import Fault
from tests.double.store import Double


def archive(double: Double, image: dict[str, Any], form: str, fault: Fault) -> bytes:
    """Return an image as `oci-archive` or `docker-archive`, as podman 4.3.1 writes them; a fault spoils it."""
    layers = {name: double.blob(name).read_bytes() for name in image["layers"]}
    config = double.blob(image["Id"]).read_bytes()
    if fault.kind == "wrong bytes":
        layers |= {image["layers"][0]: layers[image["layers"][0]][:-1] + b"!"}
    if fault.kind == "no layer":
        del layers[image["layers"][0]]
    files = _docker(image["Id"], config, layers) if form == "docker-archive" else _oci(double, image, config, layers)
    if fault.kind == "no config":
        files = {name: content for name, content in files.items() if image["Id"] not in name}
    return _tar([*files.items(), *_more(fault, files)], fault)


def _oci(double: Double, image: dict[str, Any], config: bytes, layers: dict[str, bytes]) -> dict[str, bytes]:
    manifest = double.blob(image["manifest"]).read_bytes()
    if image["ManifestType"] != images.OCI:  # as `oci-dir` does: another image ID
        config = config.replace(b'"Healthcheck":{"Test":["NONE"]}', b'"Healthcheck":null')
        manifest = images.manifest_of(config, list(layers.values()))
    blobs = {**layers, **{images.hexdigest(content): content for content in (config, manifest)}}
    index = {"schemaVersion": 2, "manifests": [images.descriptor(manifest, images.OCI)]}
    return {
        **{f"blobs/sha256/{name}": content for name, content in sorted(blobs.items())},
        "index.json": images.encode(index),
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    }


def _docker(image_id: str, config: bytes, layers: dict[str, bytes]) -> dict[str, bytes]:
    listed = [{"Config": f"{image_id}.json", "RepoTags": [], "Layers": [f"{name}.tar" for name in layers]}]
    return {
        **{f"{name}.tar": content for name, content in layers.items()},
        f"{image_id}.json": config,
        "manifest.json": images.encode(listed),
        "repositories": b"{}",
    }


def _more(fault: Fault, files: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Return the members that do not belong there."""
    if fault.kind == "strange path":
        return [(fault["path"], b"evil")]
    return [next(iter(files.items()))] if fault.kind == "twice" else []


def _tar(members: list[tuple[str, bytes]], fault: Fault) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
        if fault.kind == "strange type":
            member = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
            member.type, member.linkname = fault["type"].encode(), "/etc/passwd"
            made.addfile(member)
        if fault.kind == "oversize":
            member = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
            member.size = fault["size"]
            buffer.write(member.tobuf())
    content = buffer.getvalue()
    return content[: len(content) - fault["bytes"]] if fault.kind == "short" else content
