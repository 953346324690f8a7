"""Listening: a TCP socket, an aiohttp server on it, an orderly end."""

import contextlib
import errno
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from bridge.config import EncodingsConfig, RegistryConfig
from bridge.errors import ListenError
from bridge.limits import Limits
from bridge.listening import DRAIN
from bridge.registry.accepting import Acceptor, accepting
from bridge.registry.access import guarded
from bridge.registry.app import Registry
from bridge.registry.connection import LIMITS, LIMITS_WITH_TLS, STALLED, Listener
from bridge.registry.tls import Tls
from bridge.tree.reader import TreeReader

_BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""

_LETTING_GO = 1.0
"""Seconds that an address in use gets to become free."""

_OWN_FILES = 128
"""Open files that the process needs beside its clients'."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; raise ListenError that says what to do."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return _bind(address, kind)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        msg = f"cannot listen on {host}:{port}: {why}; choose another address with --listen HOST:PORT"
        raise ListenError(msg) from error


def _bind(address: tuple[str, int, int, int] | tuple[str, int] | tuple[int, bytes], kind: int) -> socket.socket:
    """Return the listening socket. Workers of a podbridge that was killed may hold the address for a moment more."""
    deadline = time.monotonic() + _LETTING_GO
    while True:
        try:
            return socket.create_server(address[:2], family=kind, backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def address_of(listener: socket.socket) -> str:
    """Return where it listens, `HOST:PORT`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.asynccontextmanager
async def serving(
    tree: Path,
    listener: socket.socket,
    settings: RegistryConfig | None = None,
    encodings: EncodingsConfig | None = None,
) -> AsyncIterator[str]:
    """Serve `tree` on `listener` in this process while the block runs, as `opened` does; yields the address."""
    address = address_of(listener)
    async with opened(tree, listener, settings or RegistryConfig(), encodings or EncodingsConfig()):
        yield address


@contextlib.asynccontextmanager
async def opened(
    tree: Path,
    listener: socket.socket,
    settings: RegistryConfig,
    encodings: EncodingsConfig,
    damaged: Callable[[str], None] = lambda _digest: None,
) -> AsyncIterator[tuple[Listener, Acceptor]]:
    """Serve `tree` on `listener`, which is closed, while the block runs; then in order to the end.

    Access and TLS are those of `settings`; `damaged` is told of each blob whose bytes are not its own. Other
    processes may accept from the same socket. Raises ConfigError where a file that the settings name cannot be used.
    """
    registry = Registry(TreeReader(tree), encodings, damaged)
    with listener, guarded(settings, registry.handle) as handle:
        tls = None if settings.tls is None else Tls(settings.tls).context
        # Connections inherit it. It is tcp(7)'s, so a stalled reader costs no timer and no wake-up here.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED * 1000))
        limits = _fitting(LIMITS if tls is None else LIMITS_WITH_TLS)
        server = Listener(handle, limits, access_log=settings.access_log)
        async with accepting(listener, server, tls) as acceptor:
            yield server, acceptor
        await server.drain(DRAIN)


def _fitting(limits: Limits) -> Limits:
    """Raise the limit of open files as far as it goes, and lower that of connections to what fits, with a blob each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return replace(limits, connections=max(1, min(limits.connections, (hard - _OWN_FILES) // 2)))
