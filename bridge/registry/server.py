"""Listening: a TCP socket, an aiohttp server on it, an orderly end."""

import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from bridge.errors import ListenError
from bridge.registry.app import Registry
from bridge.registry.connection import MAX_CONNECTIONS, STALLED, Listener
from bridge.tree.reader import TreeReader

_DRAIN = 10.0
"""Seconds that pulls under way get to finish when the registry stops."""

_OWN_FILES = 128
"""Open files that the process needs beside its clients'."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; raise ListenError that says what to do."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=kind, backlog=1024)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        msg = f"cannot listen on {host}:{port}: {why}; choose another address with --listen HOST:PORT"
        raise ListenError(msg) from error


@contextlib.asynccontextmanager
async def serving(tree: Path, listener: socket.socket, *, encode_loopback: bool = False) -> AsyncIterator[str]:
    """Serve `tree` on `listener` while the block runs; yields the address, `HOST:PORT`."""
    # Connections inherit it. It is tcp(7)'s, so a stalled reader costs no timer and no wake-up here.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED * 1000))
    registry = Registry(TreeReader(tree), encode_loopback=encode_loopback)
    runner = web.ServerRunner(Listener(registry, _most_connections()), shutdown_timeout=_DRAIN)
    await runner.setup()
    try:
        # the site closes the listener
        await web.SockSite(runner, listener).start()
        host, port = listener.getsockname()[:2]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        await runner.cleanup()


def _most_connections() -> int:
    """Raise the limit of open files as far as it goes, and return how many connections fit, with a blob each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(MAX_CONNECTIONS, (hard - _OWN_FILES) // 2))
