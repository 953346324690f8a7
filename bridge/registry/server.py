"""Listening: a TCP socket, an aiohttp server on it, an orderly end."""

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from bridge.config import RegistryConfig
from bridge.errors import ListenError
from bridge.registry.access import Handler, guarded
from bridge.registry.app import Registry
from bridge.registry.connection import MAX_CONNECTIONS, STALLED, Listener
from bridge.registry.exposure import warn_if_open
from bridge.registry.tls import HANDSHAKE, Tls
from bridge.tree.reader import TreeReader

_DRAIN = 10.0
"""Seconds that pulls under way get to finish when the registry stops."""

_BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""

_OWN_FILES = 128
"""Open files that the process needs beside its clients'."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; raise ListenError that says what to do."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=kind, backlog=_BACKLOG)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        msg = f"cannot listen on {host}:{port}: {why}; choose another address with --listen HOST:PORT"
        raise ListenError(msg) from error


@contextlib.asynccontextmanager
async def serving(
    tree: Path, listener: socket.socket, settings: RegistryConfig | None = None, *, encode_loopback: bool = False
) -> AsyncIterator[str]:
    """Serve `tree` on `listener`, which is closed, while the block runs; yields the address, `HOST:PORT`.

    Access and TLS are those of `settings`; without them everything is open, in plain HTTP. Raises
    ConfigError where a file that they name cannot be used.
    """
    settings = settings or RegistryConfig()
    registry = Registry(TreeReader(tree), encode_loopback=encode_loopback)
    with listener, guarded(settings, registry.handle) as handle:
        tls = None if settings.tls is None else Tls(settings.tls).context
        warn_if_open(settings, listener)
        async with _accepting(listener, handle, tls):
            host, port = listener.getsockname()[:2]
            yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.asynccontextmanager
async def _accepting(listener: socket.socket, handle: Handler, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    # Connections inherit it. It is tcp(7)'s, so a stalled reader costs no timer and no wake-up here.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED * 1000))
    protocols = Listener(handle, _most_connections())
    runner = web.ServerRunner(protocols, shutdown_timeout=_DRAIN)
    await runner.setup()
    # not aiohttp's site, which leaves each client a whole minute for its handshake
    server = await asyncio.get_running_loop().create_server(
        protocols, sock=listener, backlog=_BACKLOG, ssl=tls, ssl_handshake_timeout=HANDSHAKE if tls else None
    )
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()


def _most_connections() -> int:
    """Raise the limit of open files as far as it goes, and return how many connections fit, with a blob each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(MAX_CONNECTIONS, (hard - _OWN_FILES) // 2))
