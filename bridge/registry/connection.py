"""What a client may cost: limits on its connections, its headers and its silence, and errors below HTTP.

aiohttp parses the requests; what it refuses by itself leaves as OCI error JSON too.
"""

import asyncio
import time
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from bridge.refusing import IDLE, Refusing, turn_away, unavailable
from bridge.registry.access import Handler
from bridge.registry.accounting import log_request, sent
from bridge.registry.errors import Problem, RegistryError, error_response
from bridge.registry.traffic import Meter, Traffic

STALLED = 60.0
"""Seconds that a client may leave everything sent to it unread or unacknowledged; then it is cut."""

_LINGER = 0.5
"""Seconds that a client which is about to ask has to do so when the process ends."""

_POLL = 0.02

MAX_LINE = 8 * 1024
"""Bytes of the longest request line."""

MAX_FIELD = 32 * 1024
"""Bytes of the longest header field: enough for a `Range` of more than a thousand parts."""

MAX_HEADERS = 100
"""Header fields in one request."""

MAX_CONNECTIONS = 8192
"""Connections of one process; fewer where its limit of open files is too low for a blob each."""

_LIMITS: dict[str, Any] = {
    "access_log": None,
    "auto_decompress": False,  # nobody's request body is wanted
    "keepalive_timeout": IDLE,
    "max_field_size": MAX_FIELD,
    "max_headers": MAX_HEADERS,
    "max_line_size": MAX_LINE,
}


class Connection(Refusing):
    """One client's connection."""

    def __init__(self, listener: "Listener") -> None:
        self.answering = False
        self._listener = listener
        self._counted = False
        self._heard_all = False
        super().__init__(listener, loop=asyncio.get_running_loop(), **_LIMITS)

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way, or waits to be."""
        return self.answering or bool(self._messages)

    @property
    def is_ending(self) -> bool:
        """Whether the process ends, and with it this connection after its next answer."""
        return self._listener.ending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it where there are too many."""
        if self._listener.meter.connections >= self._listener.most:
            turn_away(transport, _REFUSAL)
            return
        self._listener.meter.connected(1)
        self._counted = True
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection out."""
        if self._counted:
            self._counted = False
            self._listener.meter.connected(-1)
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
        if self._heard_all and not self._messages:
            self.close()

    def refusal(self, status: HTTPStatus, message: str | None) -> web.Response:
        """Return an error of the specification."""
        too_large = status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        wrong = Problem.REQUEST_TOO_LARGE if too_large else Problem.REQUEST_INVALID
        return error_response(RegistryError(Problem.FAILED if status >= 500 else wrong, message))


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
        """Whether the connection stays open for more; none does while the process ends."""
        return not (self._message.should_close or self.connection.is_ending)


class Listener(web.Server):
    """Makes a `Connection` of every connection, and counts; `most` is how many there may be."""

    def __init__(self, handle: Handler, most: int, *, access_log: bool = False) -> None:
        super().__init__(handle, request_factory=Request)
        self.most = most
        self.access_log = access_log
        self.meter = Meter()
        self.ending = False

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one connection, as asyncio asks for it."""
        return Connection(self)

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


_REFUSAL = unavailable(Problem.TOO_MANY_CONNECTIONS.body())
