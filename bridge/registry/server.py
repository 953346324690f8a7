"""Listening: a TCP socket, an aiohttp server on it, an orderly end."""

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from bridge.errors import ListenError
from bridge.registry.app import Registry
from bridge.tree.reader import TreeReader

_DRAIN = 10.0
"""Seconds that pulls under way get to finish when the registry stops."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; raise ListenError that says what to do."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=kind, backlog=1024)
    except OSError as error:
        msg = f"cannot listen on {host}:{port}: {error.strerror}; choose another address with --listen HOST:PORT"
        raise ListenError(msg) from error


@contextlib.asynccontextmanager
async def serving(tree: Path, listener: socket.socket) -> AsyncIterator[str]:
    """Serve `tree` on `listener` while the block runs; yields the address, `HOST:PORT`."""
    server = web.Server(Registry(TreeReader(tree)).handle, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_DRAIN)
    await runner.setup()
    try:
        # the site closes the listener
        await web.SockSite(runner, listener).start()
        host, port = listener.getsockname()[:2]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        await runner.cleanup()
