"""The sockets of the control API, and of the probes on TCP."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from bridge.bounded import Bounded
from bridge.control import answers
from bridge.control.api import Control, Probes, Sources
from bridge.control.schema import Problem
from bridge.descriptors import shares
from bridge.entrance import Entrance, Guest
from bridge.errors import ListenError
from bridge.limits import Held, Limits
from bridge.listening import BACKLOG
from bridge.places import Places
from bridge.refusing import unavailable
from bridge.units import Address

_LINGER = 1.0
"""Seconds that a client whose body nobody reads has to stop sending it: it is on this machine."""

_SETTINGS: dict[str, Any] = {
    "access_log": None,
    "auto_decompress": False,
    "lingering_time": _LINGER,
}


@contextlib.contextmanager
def listening_on_tcp(address: Address) -> Iterator[socket.socket]:
    """Have a listening TCP socket while the block runs; raise ListenError where that cannot be."""
    try:
        kind, _, _, _, found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(found[:2], family=kind, backlog=BACKLOG)
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
    limits = Limits(connections=shares().control)
    async with _running(Control(sources, limits.connections).application(), listener, "control", limits):
        yield


@contextlib.asynccontextmanager
async def probed(sources: Sources, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the metrics and the probes, and nothing else, on `listener` while the block runs."""
    application = web.Application(middlewares=[answers.errors])
    application.add_routes(Probes(sources).routes())
    async with _running(application, listener, "metrics", Limits(connections=shares().probes)):
        yield


@contextlib.asynccontextmanager
async def _running(
    application: web.Application, listener: socket.socket, name: str, limits: Limits
) -> AsyncIterator[None]:
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    loop, manager, held = asyncio.get_running_loop(), runner.server, Held(limits.held)
    entrance = Entrance(listener, name, Places(limits.connections, "connections"), _FULL)

    async def serve(guest: Guest) -> None:
        connection = _Connection(manager, limits, held, partial(entrance.was_used, guest))
        guest.is_idle, guest.leave = connection.is_idle, connection.leave
        await loop.connect_accepted_socket(lambda: connection, guest.socket)
        await connection.gone

    try:
        async with entrance.open(serve):
            yield
    finally:
        await runner.cleanup()
        await entrance.end()


class _Connection(Bounded):
    """One client's connection. `was_used` is called whenever a request has been answered."""

    def __init__(self, manager: web.Server | None, limits: Limits, held: Held, was_used: Callable[[], None]) -> None:
        super().__init__(manager, limits, held, **_SETTINGS)
        self.gone = asyncio.get_running_loop().create_future()
        """Done when the connection has ended."""
        self._was_used = was_used
        self._heard_all = False

    def is_idle(self) -> bool:
        """Return True if no request is under way."""
        return not self._under_way and not self._messages

    def leave(self, answer: bytes) -> None:
        """Send what tells the client why, as far as it is taken at once, and end the connection."""
        if self.transport is None:
            return
        if not self._deaf:  # else it has been told why already
            self.transport.write(answer)
        self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp's own returns what means False
        """Answer what a client asked before it closed its side, as `nc -N` does."""
        self._heard_all = True
        return not self.is_idle()

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Note that a request has been answered: aiohttp calls it. A client that has closed its side asks no more."""
        super().log_access(request, response, time)
        self._was_used()
        if self._heard_all and self.is_idle():
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Say so."""
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)

    def refusal(self, status: HTTPStatus, message: str | None) -> web.Response:
        """Return a `Problem`."""
        is_told = message is not None and status != HTTPStatus.INTERNAL_SERVER_ERROR
        said = message if is_told else "the service failed on this; its log says why"
        answer = answers.refused(status, status.phrase, said or "")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            answer.headers["Retry-After"] = "1"
        return answer


_FULL = unavailable(
    msgspec.json.encode(
        Problem("service unavailable", "too many clients are connected; try again soon", 503, "ServiceUnavailable")
    )
)
