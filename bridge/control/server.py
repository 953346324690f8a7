"""The sockets of the control API, and of the probes on TCP."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from bridge.control import answers
from bridge.control.api import Control, Probes, Sources
from bridge.control.schema import Problem
from bridge.errors import ListenError
from bridge.listening import BACKLOG
from bridge.refusing import IDLE, Refusing, turn_away, unavailable
from bridge.units import Address

MOST_PROBING = 64
"""Connections to the probes on TCP: whoever reaches them must not take the files that the service needs."""

_LINGER = 1.0
"""Seconds that a client whose body nobody reads has to stop sending it: it is on this machine."""

_SETTINGS: dict[str, Any] = {
    "access_log": None,
    "auto_decompress": False,
    "keepalive_timeout": IDLE,
    "lingering_time": _LINGER,
}


@contextlib.contextmanager
def listening_on_tcp(address: Address) -> Iterator[socket.socket]:
    """Have a listening TCP socket while the block runs; raise ListenError where that cannot be."""
    try:
        kind, _, _, _, found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(found[:2], family=kind)
    except OSError as error:
        msg = f"cannot listen on {address}: {error.strerror}; set another with `metrics: {{listen: HOST:PORT}}`"
        raise ListenError(msg) from error
    with listener:
        yield listener


def address_of(listener: socket.socket) -> str:
    """Return where a TCP socket listens, `HOST:PORT`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.asynccontextmanager
async def serving(sources: Sources, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the control API on `listener` while the block runs."""
    async with _running(Control(sources).application(), listener):
        yield


@contextlib.asynccontextmanager
async def probed(sources: Sources, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the metrics and the probes, and nothing else, on `listener` while the block runs."""
    application = web.Application(middlewares=[answers.errors])
    application.add_routes(Probes(sources).routes())
    async with _running(application, listener, _Probing):
        yield


@contextlib.asynccontextmanager
async def _running(
    application: web.Application, listener: socket.socket, kind: type["_Connection"] | None = None
) -> AsyncIterator[None]:
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    loop, manager = asyncio.get_running_loop(), runner.server
    assert manager is not None  # noqa: S101
    made = partial(kind or _Connection, manager, loop=loop, **_SETTINGS)
    server = await loop.create_server(made, sock=listener, backlog=BACKLOG)
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()


class _Connection(Refusing):
    """One client's connection."""

    def refusal(self, status: HTTPStatus, message: str | None) -> web.Response:
        """Return a `Problem`."""
        said = message if message is not None and status < 500 else "the service failed on this; its log says why"
        return answers.refused(status, status.phrase, said)


class _Probing(_Connection):
    """One client's connection to the probes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it where there are too many."""
        manager = self._manager
        if manager is not None and len(manager.connections) >= MOST_PROBING:
            turn_away(transport, _REFUSAL)
            return
        super().connection_made(transport)


_FULL = Problem(
    "service unavailable", f"{MOST_PROBING} connections are open; try again soon", 503, "ServiceUnavailable"
)
_REFUSAL = unavailable(msgspec.json.encode(_FULL))
