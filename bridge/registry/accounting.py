"""What a request cost: the bytes of its answer's body, and its line in the access log."""

import logging

from aiohttp import web

from bridge.registry.access import user_of
from bridge.registry.encoding import IDENTITY

log = logging.getLogger("bridge.registry.access_log")

_LONGEST = 512
"""Characters of a path that are logged."""


class Streamed(web.StreamResponse):
    """A response whose body leaves in pieces; who sends them counts the bytes in `sent`."""

    sent = 0


def sent(response: web.StreamResponse, method: str) -> tuple[int, str]:
    """Return the bytes of the body that were sent, and their content coding."""
    coding = response.headers.get("Content-Encoding", IDENTITY)
    if isinstance(response, Streamed):
        return response.sent, coding
    if method == "HEAD" or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return 0, coding
    return len(response.body), coding


def log_request(request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
    """Log one request that has ended. Nothing is logged that could hold a password: no query, no header."""
    size, coding = sent(response, request.method)
    log.info(
        "request peer=%s user=%r method=%s path=%r status=%d bytes=%d coding=%s seconds=%.3f",
        *(request.remote, user_of(request), request.method, request.path[:_LONGEST]),
        *(response.status, size, coding, seconds),
    )
