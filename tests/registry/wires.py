"""Registries over a tree, in this process or as one of their own, and HTTP to them without any help."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bridge.registry import server
from bridge.tree.publisher import Tree
from tests.double import gates
from tests.end_to_end.programs import eventually
from tests.end_to_end.services import Client, Response


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
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), gates.DEADLINE)
        head = raw.decode("latin-1").split("\r\n")
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
        return await asyncio.wait_for(self.reader.read(1), gates.DEADLINE) == b""


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


async def until(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail where it does not in time."""
    await gates.eventually(holds)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text(encoding="utf-8").split()]


@contextmanager
def registry(tree: Path, log: Path) -> Iterator["Registry"]:
    """Run `podbridge registry` on a free port while the block runs."""
    command = [sys.executable, "-m", "bridge", "registry", "--tree", str(tree), "--listen", "127.0.0.1:0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        sign = "serving registry="
        eventually(lambda: sign in log.read_text(encoding="utf-8"))
        address = log.read_text(encoding="utf-8").partition(sign)[2].split()[0]
        yield Registry(address, process.pid, log)
    finally:
        process.terminate()
        assert process.wait(gates.DEADLINE) == 0, log.read_text(encoding="utf-8")


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
        """Return what the process and its workers have open."""
        found = []
        for pid in (self.pid, *children(self.pid)):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    found.append(str(entry.readlink()))
        return found
