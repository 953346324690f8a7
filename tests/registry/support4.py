"""A tree made by the publisher's own hand, a registry over it in this process, and HTTP without any help."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bridge.oci import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Digest, Reference
from bridge.plan import Fidelity, Publication, Source
from bridge.registry import server
from bridge.tree.publisher import Tree


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
        digest = Digest.of(content)
        with self._tree() as tree, tree.stage() as stage:
            (stage / "blob").write_bytes(content)
            tree.adopt(stage / "blob", digest)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    def publish(self, reference: str, content: bytes, media_type: str = OCI_MANIFEST) -> Descriptor:
        """Publish the manifest `content`, whose references the tree holds already."""
        value = self.blob(content, media_type)
        descriptor = Descriptor.from_json(value)
        publication = Publication(
            Reference.parse(reference), descriptor, Source("0" * 64, None), Fidelity.EXACT, reference, 0, time.time()
        )
        with self._tree() as tree:
            tree.publish(publication)
        return descriptor

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


@contextlib.asynccontextmanager
async def served(root: Path) -> AsyncIterator[str]:
    """Serve the tree while the block runs; yields `HOST:PORT`."""
    with Tree(root):
        pass  # makes it where there is none
    async with server.serving(root, server.listen("127.0.0.1", 0)) as address:
        yield address


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, as it came over the wire. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    version: str = "HTTP/1.1"

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The OCI error code, of a body that is exactly the specification's error JSON."""
        assert self.headers["content-type"] == "application/json"
        (error,) = self.json["errors"]
        return str(error["code"])


@dataclass(slots=True)
class Line:
    """One connection on which a test writes bytes and reads responses."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    methods: list[str] = field(default_factory=list)

    async def send(self, raw: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """Read one response to a request of that method."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1").split("\r\n")
        version, status, *_ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        bare = method == "HEAD" or int(status) in (204, 304)
        body = b"" if bare else await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(status), headers, body, version)

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send one request, and read its response. `If_Range` in `headers` spells `If-Range`."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: registry",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return await self.answer(method)

    async def closed(self) -> bool:
        """Say whether the server closes the connection, with nothing more sent."""
        return await asyncio.wait_for(self.reader.read(1), 20) == b""


@contextlib.asynccontextmanager
async def dialled(address: str) -> AsyncIterator[Line]:
    """Open a connection to `HOST:PORT` while the block runs."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def ask(address: str, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask once, on a connection of its own."""
    async with dialled(address) as line:
        return await line.ask(path, method, **headers)


async def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until the condition holds; fail where it does not in time."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 # the world has no event to wait for
            await asyncio.sleep(0.02)
