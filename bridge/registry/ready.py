"""Answers that were made before they are asked for: head and body leave in one write.

Most requests are for the same few manifests and small blobs. Making their headers anew costs more than all else
that the registry does for them; docs/performance.md has the figures.
"""

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11

from bridge.registry.accounting import Streamed
from bridge.registry.headers import About


class _Ready(Streamed):
    """An answer of 200 to a request of HTTP/1.1 whose connection stays open."""

    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__()
        self._content = head + body
        self.sent = len(body)
        self._keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send everything."""
        transport = request.transport
        if transport is None:
            msg = "the client went away"
            raise ConnectionResetError(msg)
        transport.write(self._content)
        if transport.get_write_buffer_size():
            await request.writer.drain()

    async def write_eof(self, _: bytes = b"") -> None:
        """Do nothing: everything was sent."""


def answer(request: web.BaseRequest, about: About, body: bytes) -> web.StreamResponse:
    """Answer with `body`, which is what the digest in `about` names."""
    if request.version != HttpVersion11 or not request.keep_alive or not body:
        # aiohttp leaves the length out of the answer to a HEAD for an empty body
        return web.Response(body=body, headers=about.headers if body else {**about.headers, "Content-Length": "0"})
    head = b"%bContent-Length: %d\r\n%b" % (about.head, len(body), _ending(int(time.time())))
    return _Ready(head, body if request.method == "GET" else b"")


@lru_cache(maxsize=2)
def _ending(now: int) -> bytes:
    """Return the end of every head in that second."""
    return f"Date: {formatdate(now, usegmt=True)}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n".encode("latin-1")
