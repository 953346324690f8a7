"""Trees made by hand, and a registry that serves one as a process of its own."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Digest, Reference
from bridge.plan import Fidelity, Publication, Source
from bridge.tree.publisher import Tree
from tests.end_to_end.programs import eventually
from tests.end_to_end.services import Client, Response

LAYER = {OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar", DOCKER_MANIFEST: "application/vnd.docker.layer.v1.tar"}
CONFIG = "application/vnd.oci.image.config.v1+json"


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
    config = add_blob(tree, json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode(), CONFIG)
    value = {"schemaVersion": 2, "mediaType": media_type, "config": config.to_json(), "layers": described, **more}
    return json.dumps({key: item for key, item in value.items() if item is not None}).encode()


def index_of(tree: Tree, manifests: list[bytes], media_type: str = OCI_INDEX) -> bytes:
    """Put manifests into the tree, and return an index of them."""
    members = [add_blob(tree, content, json.loads(content)["mediaType"]).to_json() for content in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": members}).encode()


def publish(tree: Tree, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST) -> str:
    """Show a manifest under a reference, and return its digest."""
    descriptor = add_blob(tree, manifest, media_type)
    source = Source(descriptor.digest.hex, descriptor.digest)
    name = f"localhost/{reference}"
    parsed = Reference.parse(reference)
    tree.publish(Publication(parsed, descriptor, source, Fidelity.EXACT, name, len(manifest), time.time()))
    return str(descriptor.digest)


@contextmanager
def registry(tree: Path, log: Path) -> Iterator["Registry"]:
    """Run `podbridge registry` on a free port while the block runs."""
    command = [sys.executable, "-m", "bridge", "registry", "--tree", str(tree), "--listen", "127.0.0.1:0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        sign = "serving registry="
        eventually(lambda: sign in log.read_text(encoding="utf-8"), 20)
        address = log.read_text(encoding="utf-8").partition(sign)[2].split()[0]
        yield Registry(address, process.pid, log)
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text(encoding="utf-8")


class Registry(Client):
    """A registry process, and a client for it that can send any bytes."""

    def __init__(self, address: str, pid: int, log: Path) -> None:
        super().__init__(address)
        self.pid = pid
        self._log = log

    def said(self) -> str:
        """Return its log."""
        return self._log.read_text(encoding="utf-8")

    def connect(self) -> socket.socket:
        """Open a connection."""
        host, port = self.address.split(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def send(self, target: str, method: str = "GET") -> Response:
        """Send a request target byte for byte as it stands, and read the whole answer."""
        with self.connect() as connection:
            head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode("utf-8", "surrogateescape"))
            content = b"".join(iter(lambda: connection.recv(65536), b""))
        told, _, body = content.partition(b"\r\n\r\n")
        first, *lines = told.decode().split("\r\n")
        headers: Mapping[str, str] = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
        return Response(int(first.split()[1]), headers, body)

    def open_files(self) -> list[str]:
        """Return what the process has open."""
        found = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found.append(str(entry.readlink()))
            except FileNotFoundError:
                continue
        return found
