"""A connection whose client cannot make it hold more than its limits say, whatever the client sends.

aiohttp parses what it is given at once, up to 32 requests ahead, bounds each header field but not the whole head,
and drops what follows a request with `Upgrade`. So it is given one message at a time here, and never a byte beyond it:

- a head is kept as it came until it is whole, within its limits of bytes and seconds;
- the next head waits, unparsed, until the request before it is answered, and the client is read no further;
- what all connections of a socket keep that way is counted together.

A message ends with CR LF, or with the last byte of a length that its head tells, so it is cut out by these.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import _ErrInfo

from bridge.limits import Held, Limits
from bridge.refusing import Refusing

_END = b"\r\n\r\n"
_TURN = 32
"""Pieces that the parser gets until other connections have their turn: a body may come in chunks of one byte."""

_LINGER = 2.0
"""Seconds in which a client that is refused may go on sending, unread: a close before that would take the answer."""


class Bounded(Refusing, asyncio.BufferedProtocol):
    """A connection within `limits`; `held` counts for the whole socket, `settings` are `web.RequestHandler`'s."""

    def __init__(self, manager: Any, limits: Limits, held: Held, **settings: Any) -> None:
        self._limits = limits
        self._held = held
        self._unread = bytearray()
        """What was read and not given to the parser: an unfinished head, or requests that wait. Counted in `_held`."""
        self._in_held = 0
        """Bytes of `_unread` that `_held` knows of."""
        self._begun = 0
        """Bytes of an unfinished head that the parser has: its first line, so that what is no HTTP is told at once."""
        self._line = False
        """Whether that line is complete."""
        self._body: _Body | None = None
        """The body of the last request, as long as there is more of it to come."""
        self._under_way = False
        """Whether a request was parsed and is not answered yet; no other is parsed meanwhile."""
        self._again = False
        """Whether `_proceed` goes on in a moment."""
        self._held_back = False
        """Whether the client is read no further until what is there already was parsed."""
        self._deaf = False
        """Whether all that still comes is dropped, since the connection ends."""
        self._timer: asyncio.TimerHandle | None = None
        """What ends the wait for a head that has begun; None where none has."""
        self._ends = False
        """Whether the client is told that nothing more comes as soon as all that was written has been sent."""
        settings = {"max_field_size": limits.head, "max_headers": limits.fields, **settings}
        loop = asyncio.get_running_loop()
        super().__init__(manager, loop=loop, keepalive_timeout=limits.idle_seconds, **settings)

    def get_buffer(self, _: int) -> memoryview:
        """Return where the next bytes go: one buffer for all, since they are taken from it at once."""
        return self._held.buffer

    def buffer_updated(self, length: int) -> None:
        """Take bytes that came."""
        self.data_received(bytes(self._held.buffer[:length]))

    def data_received(self, data: bytes) -> None:
        """Take bytes that came; aiohttp calls it with none, for its parser to go on with a body."""
        if self._deaf or self._force_close or self._close:
            return
        if not data and self._body is not None:
            super().data_received(data)
            self._learn(data)
        self._unread += data
        if not self._again:
            self._proceed()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything."""
        self._drop()
        super().connection_lost(exc)

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Go on to the next request: aiohttp calls it when one has been answered."""
        super().log_access(request, response, time)
        self._under_way = False
        transport = self.transport
        if transport is None or transport.is_closing():
            self._drop()
        elif response.keep_alive:
            self._proceed()
        else:
            self._drop()
            self._end(transport)

    def resume_writing(self) -> None:
        """Let what writes go on, and end what has been sent whole."""
        super().resume_writing()
        if self._ends and self.transport is not None:
            self._loop.call_soon(_shut, self.transport)  # not now: asyncio is amid its write, and may close it itself

    def _end(self, transport: asyncio.Transport) -> None:
        """Tell a client that nothing more comes, as soon as all that was written has been sent.

        TLS has no such word. asyncio's `write_eof` is not for this: if the client has left by then, it raises, and
        where something is left to be sent it does so in the loop, where nothing can take it.
        """
        if not transport.can_write_eof():
            return
        if transport.get_write_buffer_size():
            self._ends = True
            transport.set_write_buffer_limits(high=0)  # `resume_writing` is called when nothing is left
        else:
            _shut(transport)

    def _proceed(self) -> None:
        """Give the parser what it may have now, and see what is left; nothing of a client that has left."""
        self._again = False
        if self.transport is None or self.transport.is_closing():
            self._drop()
        for _ in range(_TURN):
            if self._deaf or not (piece := self._piece()):
                break
            del self._unread[: len(piece)]
            super().data_received(piece)
            self._learn(piece)
        else:
            self._again = True
            self._loop.call_soon(self._proceed)
        self._count()
        self._watch()

    def _piece(self) -> bytes:
        """Return the next bytes for the parser, of one message only; empty where it has to wait."""
        if self._body is not None:
            return b"" if self._reading_paused else self._body.piece(self._unread)
        if self._under_way:
            return b""
        if not self._begun:
            while self._unread.startswith(b"\r\n"):  # to be ignored before a request: RFC 9112, 2.2
                del self._unread[:2]
        end = self._end_of_part()
        if self._begun + (end or len(self._unread)) > self._limits.head:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long")
            return b""
        return bytes(self._unread[:end])

    def _end_of_part(self) -> int:
        """Return how many unread bytes of the head the parser may have; 0 where its end has to come first."""
        if self._line and self._unread.startswith(b"\r\n"):
            return 2  # no field at all
        whole = _behind(self._unread, _END)
        return whole if whole or self._line else _behind(self._unread, b"\r\n") or len(self._unread)

    def _learn(self, piece: bytes) -> None:
        """See what the parser made of a piece."""
        if self._upgraded:  # this server ignores it, and goes on with HTTP/1.1: RFC 9110, 7.8
            self._upgraded = False
            assert self._parser is not None  # noqa: S101
            self._parser.set_upgraded(False)
        message, content = self._messages[-1] if self._messages else (None, None)
        if self._body is not None:
            if isinstance(message, _ErrInfo):
                self._drop()
            elif self._body.content.is_eof():
                self._body = None
        elif message is not None and content is not None:
            self._under_way, self._line, self._begun = True, False, 0
            if isinstance(message, RawRequestMessage) and not content.is_eof():
                self._body = _Body(content, message.headers.get("Content-Length"))
        else:
            self._begun += len(piece)
            self._line = piece.endswith(b"\r\n")

    def _count(self) -> None:
        """Count what is left with what the other connections hold; refuse to hold more than they all may."""
        grown = len(self._unread) - self._in_held
        self._in_held += grown
        self._held.change(grown)
        if grown > 0 and self._held.is_full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are incomplete or wait; try again")

    def _watch(self) -> None:
        """Hold the client back, or let it go on, and watch over a head that has begun."""
        if self.transport is None or self._deaf:
            return
        if self._unread and (self._again or (self._under_way and self._body is None)):
            self._held_back = True
            self.transport.pause_reading()
        elif self._held_back:
            self._held_back = False
            if not self._reading_paused:
                self.transport.resume_reading()
        begun = bool(self._begun or self._unread) and not self._under_way
        if begun and self._timer is None:
            late = self._loop.call_later
            self._timer = late(self._limits.head_seconds, self._refuse, HTTPStatus.REQUEST_TIMEOUT, _LATE)
        elif not begun:
            self._unwatch()

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self) -> None:
        """Forget what was not parsed, and do not listen any more."""
        self._deaf = True
        self._unread.clear()
        self._held.change(-self._in_held)
        self._in_held = 0
        self._unwatch()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer what is no request yet, and close; cut the connection where an answer is under way."""
        self._drop()
        transport = self.transport
        if transport is None:
            return
        if self._under_way:
            transport.abort()
            return
        transport.write(_written(self.refusal(status, message)))
        self._end(transport)
        self._timer = self._loop.call_later(_LINGER, transport.close)


class _Body:
    """The rest of a request's body, which the parser puts into `content`."""

    def __init__(self, content: StreamReader, length: str | None) -> None:
        self.content = content
        self._left = None if length is None else int(length)

    def piece(self, unread: bytearray) -> bytes:
        """Return the next bytes that surely belong to it; without a length it is chunked, and a line of it."""
        if self._left is not None:
            piece = bytes(unread[: self._left])
            self._left -= len(piece)
            return piece
        return bytes(unread[: _behind(unread, b"\r\n") or len(unread) - unread.endswith(b"\r")])


def _behind(content: bytearray, end: bytes) -> int:
    """Return how many bytes there are up to and with `end`; 0 where it is not among them."""
    return content.find(end) + len(end) if end in content else 0


def _shut(transport: asyncio.Transport) -> None:
    """Close our side of a connection; all of it where the client has left."""
    try:
        transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
    except OSError:
        transport.abort()


_LATE = "the head was not complete in time"


def _written(response: web.Response) -> bytes:
    """Return a whole answer that ends its connection as it goes over the wire."""
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n{''.join(lines)}\r\n".encode() + body
