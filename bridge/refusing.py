"""Answering in an API's own words what never reaches its handlers: what is no HTTP, and our own failures."""

import logging
from abc import ABC, abstractmethod
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from bridge.fence import Fence

log = logging.getLogger(__name__)

_fence = Fence()

IDLE = 120.0
"""Seconds that a connection may wait for its next request to be complete; then it is closed."""


def unavailable(body: bytes) -> bytes:
    """Return the whole answer, a JSON document with status 503, for a client that is turned away before it asks."""
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class Refusing(web.RequestHandler, ABC):
    """A connection that aiohttp parses, and whose errors below HTTP leave as `refusal` writes them."""

    @abstractmethod
    def refusal(self, status: HTTPStatus, message: str | None) -> web.Response:
        """Return the answer with this status; `message` is what the parser says."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return what answers a request that aiohttp could not parse, or that our own code failed on."""
        if isinstance(exc, ConnectionError):
            raise exc  # nobody is there to be answered: aiohttp closes the connection
        if status >= 500:
            log.error("request failed path=%r error=%r", request.path, exc)
            if exc is not None:
                _fence.failure("a request", exc)
        if request.writer.output_size > 0:
            error = "a response was begun"
            raise ConnectionAbortedError(error)
        is_long = isinstance(exc, LineTooLong) or "too many" in (message or "").lower()
        too_long = status < 500 and is_long
        response = self.refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if too_long else HTTPStatus(status), message)
        response.force_close()
        return response
