"""A registry with access rules or TLS in this process, the files that it needs, and clients with names."""

import asyncio
import base64
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from bridge.config import AuthConfig, RegistryConfig, TlsConfig
from bridge.registry import server
from bridge.registry.authority import make_files
from bridge.tree.publisher import Tree
from tests.registry.wires import Line


def basic(user: str, password: str) -> str:
    """Return the header of a client that logs in."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def entry(user: str, password: str, *, cost: int = 4, kind: bytes = b"2b") -> str:
    """Return a line of an htpasswd file, cheap to check."""
    made = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(cost)).replace(b"$2b$", b"$" + kind + b"$")
    return f"{user}:{made.decode()}"


def write(path: Path, content: str | bytes, *, age: float = 60) -> Path:
    """Write a file as if `age` seconds ago, at a time that no write before had."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    written = time.time() - age
    os.utime(path, (written, written))
    return path


def accounts(directory: Path, *lines: str, age: float = 60) -> Path:
    """Write an htpasswd file."""
    return write(directory / "htpasswd", "\n".join(lines) + "\n", age=age)


@contextlib.asynccontextmanager
async def guarded(
    root: Path, auth: AuthConfig | None = None, tls: TlsConfig | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """Serve the tree under these rules while the block runs; yields `HOST:PORT`."""
    with Tree(root):
        pass  # makes it where there is none
    settings = RegistryConfig(auth=auth, tls=tls)
    async with server.serving(root, server.listen(host, 0), settings) as address:
        yield address


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority, and the registry's certificate that it signed."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "Certificates":
        """Make them, as if a minute ago."""
        files, _ = make_files(directory, ["registry.test"])
        for path in files.directory.iterdir():
            write(path, path.read_bytes())
        return cls(directory)

    def file(self, name: str) -> Path:
        """Return one of `ca.crt`, `ca.key`, `server.crt`, `server.key`."""
        return self.directory / name

    def settings(self, client_ca: Path | None = None) -> TlsConfig:
        """Return the settings that name them."""
        return TlsConfig(self.file("server.crt"), self.file("server.key"), client_ca)

    def replace(self, other: "Certificates", *, age: float = 30) -> None:
        """Put another's certificate and key in place of these."""
        for name in ("server.crt", "server.key"):
            fresh = write(self.file(f"{name}.new"), other.file(name).read_bytes(), age=age)
            fresh.replace(self.file(name))

    def trusted(self, *, client: "Certificates | None" = None) -> ssl.SSLContext:
        """Return the context of a client that trusts the authority, with a certificate of its own if need be."""
        context = ssl.create_default_context(cafile=self.file("ca.crt"))
        if client is not None:
            context.load_cert_chain(client.file("client.crt"), client.file("client.key"))
        return context


@contextlib.asynccontextmanager
async def dialled(address: str, context: ssl.SSLContext) -> AsyncIterator[Line]:
    """Open a TLS connection to `HOST:PORT` while the block runs."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, limit=1 << 20)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()
