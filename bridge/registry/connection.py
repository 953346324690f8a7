"""What a client may cost: limits on its connections, its headers and its silence, and errors below HTTP.

aiohttp parses the requests; what it refuses by itself leaves as OCI error JSON too.
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from bridge.registry.access import Handler
from bridge.registry.errors import Problem, RegistryError, error_response

log = logging.getLogger(__name__)

IDLE = 120.0
"""Seconds that a connection may wait for its next request to be complete; then it is closed."""

STALLED = 60.0
"""Seconds that a client may leave everything sent to it unread or unacknowledged; then it is cut."""

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


class Connection(web.RequestHandler):
    """One client's connection."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._counted = False
        super().__init__(listener, loop=asyncio.get_running_loop(), **_LIMITS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it where there are too many."""
        if self._listener.open >= self._listener.most:
            assert isinstance(transport, asyncio.Transport)  # noqa: S101
            transport.write(_REFUSAL)
            transport.close()
            return
        self._listener.open += 1
        self._counted = True
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection out."""
        if self._counted:
            self._counted = False
            self._listener.open -= 1
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return what answers a request that aiohttp could not parse, or that our own code failed on."""
        if isinstance(exc, ConnectionError):
            raise exc  # nobody is there to be answered: aiohttp closes the connection
        if status >= 500:
            log.error("request failed path=%r", request.path, exc_info=exc)
        if request.writer.output_size > 0:
            error = "a response was begun"
            raise ConnectionAbortedError(error)
        response = error_response(RegistryError(_problem(status, exc, message), message))
        response.force_close()
        return response


def _problem(status: int, error: BaseException | None, message: str | None) -> Problem:
    if status >= 500:
        return Problem.FAILED
    if isinstance(error, LineTooLong) or "too many" in (message or "").lower():
        return Problem.REQUEST_TOO_LARGE
    return Problem.REQUEST_INVALID


class Listener(web.Server):
    """Makes a `Connection` of every connection, and counts the open ones; `most` is how many there may be."""

    def __init__(self, handle: Handler, most: int) -> None:
        super().__init__(handle)
        self.most = most
        self.open = 0

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one connection, as asyncio asks for it."""
        return Connection(self)


def _refusal() -> bytes:
    body = Problem.TOO_MANY_CONNECTIONS.body()
    head = (
        f"HTTP/1.1 {Problem.TOO_MANY_CONNECTIONS.status} Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


_REFUSAL = _refusal()
