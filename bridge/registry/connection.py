"""The registry's connections: their limits, their count, their end, and errors below HTTP in OCI's JSON."""

import asyncio
import time
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from bridge.bounded import Bounded
from bridge.heap import Heap
from bridge.limits import KIB, Held, Limits
from bridge.refusing import unavailable
from bridge.registry.access import Handler
from bridge.registry.accounting import log_request, sent
from bridge.registry.errors import Problem, RegistryError, error_response
from bridge.registry.traffic import Meter, Traffic

STALLED = 60.0
"""Seconds that a client may leave everything sent to it unread or unacknowledged; then it is cut."""

_LINGER = 0.5
"""Seconds that a client which is about to ask has to do so when the process ends."""

_POLL = 0.02

LIMITS = Limits(connections=8192)
"""Of one process. Connections are fewer where its limit of open files is too low for a blob each."""

LIMITS_WITH_TLS = replace(LIMITS, connections=4096)
"""Of one process that speaks TLS: a connection holds up to 50 KB for it."""

_SETTINGS: dict[str, Any] = {
    "access_log": None,
    "auto_decompress": False,  # a request's body is read by no one
    "lingering_time": 2.0,
    "max_line_size": 8 * KIB,
}


class Connection(Bounded):
    """One client's connection."""

    def __init__(self, listener: "Listener") -> None:
        self.answering = False
        self._listener = listener
        self._counted = False
        self._heard_all = False
        super().__init__(listener, listener.limits, listener.held, **_SETTINGS)

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way, or waits to be."""
        return self.answering or bool(self._messages)

    @property
    def is_ending(self) -> bool:
        """Whether the process ends, and with it this connection after its next answer."""
        return self._listener.ending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection in."""
        self._listener.meter.connected(1)
        self._counted = True
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection out."""
        if self._counted:
            self._counted = False
            self._listener.meter.connected(-1)
            self._listener.heap.has(self._listener.meter.connections)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp's own returns what means False
        """Answer what a client asked before it closed its side, as `nc -N` does: asyncio would close the other one too.

        TLS has no half of a connection.
        """
        self._heard_all = True
        if self.transport is None or self.transport.get_extra_info("sslcontext") is not None:
            return False
        return self.is_busy

    def close_if_idle(self) -> None:
        """Close the connection where nothing was asked, or everything answered."""
        if not self.is_busy:
            self.force_close()

    def begin_to_stream(self) -> None:
        """Tell whoever counts that an answer begins which may take long."""
        self._listener.meter.changed()

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, _: float | None) -> None:
        """Count a request that has ended: aiohttp calls it, and who cuts a response."""
        size, coding = sent(response, request.method)
        self._listener.meter.answered(response.status, coding, size)
        if self._listener.access_log and isinstance(request, Request):
            log_request(request, response, time.monotonic() - request.began)
        self.answering = False
        super().log_access(request, response, _)
        if self._heard_all and not self._messages:
            self.close()

    def refusal(self, status: HTTPStatus, message: str | None) -> web.Response:
        """Return an error of the specification."""
        headers = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
        problem = _PROBLEMS.get(status, Problem.FAILED if status >= 500 else Problem.REQUEST_INVALID)
        return error_response(RegistryError(problem, message, headers))


class Request(web.BaseRequest):
    """One request, and when it began, by the monotonic clock in seconds."""

    ATTRS = web.BaseRequest.ATTRS | {"began", "connection"}

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        super().__init__(message, payload, protocol, writer, task, asyncio.get_running_loop())
        assert isinstance(protocol, Connection)  # noqa: S101
        self.connection = protocol
        protocol.answering = True
        self.began = time.monotonic()

    @property
    def keep_alive(self) -> bool:
        """Return True if the connection stays open for more.

        None does while the process ends, nor behind a body: it is not wanted, nor what stands for a request behind it.
        """
        return not (self._message.should_close or self.connection.is_ending or self.body_exists)


class Listener(web.Server):
    """Makes a `Connection` of every connection, and counts what they cost together."""

    def __init__(self, handle: Handler, limits: Limits, *, access_log: bool = False) -> None:
        super().__init__(handle, request_factory=Request)
        self.limits = limits
        self.held = Held(limits.held)
        self.access_log = access_log
        self.meter = Meter()
        self.heap = Heap()
        self.ending = False

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one connection, as asyncio asks for it."""
        return Connection(self)

    def is_full(self, opening: int) -> bool:
        """Return True if there is no place for one more beside those, and `opening` that have no protocol yet."""
        return self.meter.connections + opening >= self.limits.connections

    @property
    def traffic(self) -> Traffic:
        """What was served until now."""
        under_way = sum(connection.is_busy for connection in self.connections if isinstance(connection, Connection))
        return replace(self.meter.traffic, under_way=under_way)

    async def drain(self, seconds: float) -> None:
        """Answer what was asked, and close every connection; cut what has not ended after so many seconds.

        A client learns from the answer that its connection ends (`Connection: close`), so that it asks no
        more on it. A connection on which nothing is asked for a moment is closed unannounced.
        """
        self.ending = True
        loop = asyncio.get_running_loop()
        idle, end = loop.time() + min(_LINGER, seconds), loop.time() + seconds
        while self.meter.connections and loop.time() < end:
            if loop.time() >= idle:
                for connection in self.connections:
                    assert isinstance(connection, Connection)  # noqa: S101
                    connection.close_if_idle()
            await asyncio.sleep(_POLL)
        await self.shutdown(_POLL)


REFUSAL = unavailable(Problem.TOO_MANY_CONNECTIONS.body())
"""What a client reads whose connection is one too many."""

_PROBLEMS = {
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: Problem.REQUEST_TOO_LARGE,
    HTTPStatus.REQUEST_TIMEOUT: Problem.REQUEST_TOO_SLOW,
    HTTPStatus.SERVICE_UNAVAILABLE: Problem.TOO_MUCH_HELD,
}
