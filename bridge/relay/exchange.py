"""One request whose answer is podbridge's own: its body in, an answer out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

import msgspec

from bridge.errors import InvalidError
from bridge.relay.bodies import Body
from bridge.relay.calls import Call
from bridge.relay.heads import Request, RequestError
from bridge.relay.wire import CHUNK, Wire

JSON = "application/json"
"""Exactly this: the docker command line reads no error that has a charset behind it."""

_LONGEST_BODY = 64 * 1024
_BODY_WITHIN = 10.0
"""Seconds in which the body of a request has to come that podbridge answers itself."""

FROM_CLIENT = 64 * 1024
"""Bytes of one read of a client's body: what comes with it, and is of the next request, is kept until that is read."""

_LINGER = 10.0
"""Seconds that a client gets to send what nobody wants, so that it reads the answer and not a broken pipe."""


class Problem(msgspec.Struct):
    """An error as podman writes it."""

    cause: str
    message: str
    response: int


class Exchange:
    """A client's request, and the way to answer it."""

    def __init__(self, client: Wire, request: Request) -> None:
        """Raise InvalidError where the length of the request's body is in doubt."""
        self.client = client
        self.request = request
        self.body: Body = request.body()
        self.call = Call.parse(request.method, request.target)
        self.answered = False
        """Whether the client was sent the beginning of an answer."""
        self.is_tunnel = False
        """Whether the connection has become one in which either side may speak."""
        self._persists = request.persists

    @property
    def endless(self) -> bool:
        """Whether the answer has no end of its own that is worth waiting for."""
        return self.is_tunnel or self.call.follows

    @property
    def lasts(self) -> bool:
        """Return True if the answer may take as long as the client or a container wants: it has no end, or a body."""
        return self.call.lasts or not self.body.done

    async def read(self) -> tuple[bytes, bytes]:
        """Return the request's body without and with its framing; raise InvalidError if it is too long or too slow."""
        try:
            async with asyncio.timeout(_BODY_WITHIN):
                return await self._read()
        except TimeoutError as error:
            raise RequestError(408, f"the body did not come whole within {_BODY_WITHIN:g} seconds") from error

    async def _read(self) -> tuple[bytes, bytes]:
        if self.request.awaits_leave and not self.body.done:
            await self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        content, raw = b"", b""
        while not self.body.done:
            passed = await take(self.client, self.body, FROM_CLIENT)
            content += self.body.content(passed)
            raw += passed
            if len(raw) > _LONGEST_BODY:
                msg = f"the request's body is longer than {_LONGEST_BODY} bytes"
                raise InvalidError(msg)
        return content, raw

    def put_back(self, raw: bytes) -> None:
        """Have the request's body read anew by whoever answers it; `raw` is all of it, with its framing."""
        self.client.unread(raw)
        self.body = self.request.body()

    async def reply(self, status: int, content: bytes, kind: str = JSON) -> None:
        """Answer with everything at once."""
        head = self._head(status, kind, f"Content-Length: {len(content)}")
        await self.client.write(head if self.request.method == "HEAD" else head + content)

    async def refuse(self, status: int, cause: str, message: str) -> None:
        """Answer with an error in podman's own form."""
        await self.reply(status, msgspec.json.encode(Problem(cause, message, status)) + b"\n")

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator["Records"]:
        """Answer 200 with JSON records, each sent as it is written. A block that fails leaves no whole answer."""
        chunked = bool(self.request.minor)
        if not chunked:
            self._persists = False
        await self.client.write(self._head(200, JSON, "Transfer-Encoding: chunked" if chunked else ""))
        records = Records(self.client, chunked=chunked)
        yield records
        await records.end()

    def _head(self, status: int, kind: str, length: str) -> bytes:
        self.answered = True
        self._persists = self._persists and self.body.done
        lines = [f"HTTP/1.{self.request.minor} {status} {HTTPStatus(status).phrase}", f"Content-Type: {kind}"]
        if length:
            lines.append(length)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append("Retry-After: 1")
        if not self._persists:
            lines.append("Connection: close")
        elif not self.request.minor:
            lines.append("Connection: keep-alive")
        return "\r\n".join([*lines, "\r\n"]).encode()

    async def finish(self, *, persists: bool = True) -> bool:
        """Read what is left of the request, and say whether the client may send another one."""
        self._persists = self._persists and persists
        if not self._persists:
            self.client.finish()
            with contextlib.suppress(TimeoutError, InvalidError):
                async with asyncio.timeout(_LINGER):
                    while not self.body.done:
                        await take(self.client, self.body, FROM_CLIENT)
        return self._persists


class Records:
    """The body of a streamed answer. Every record is one write, and with HTTP/1.1 one chunk."""

    def __init__(self, client: Wire, *, chunked: bool) -> None:
        self._client = client
        self._chunked = chunked

    async def write(self, record: object) -> None:
        """Send one JSON record, with its line end."""
        await self.pass_on(msgspec.json.encode(record) + b"\n")

    async def pass_on(self, content: bytes) -> None:
        """Send bytes as they are."""
        await self._client.write(b"%x\r\n%b\r\n" % (len(content), content) if self._chunked else content)

    async def end(self) -> None:
        """Send what tells the client that it has everything."""
        if self._chunked:
            await self._client.write(b"0\r\n\r\n")


async def take(wire: Wire, body: Body, most: int = CHUNK) -> bytes:
    """Read the next bytes of a body that is not done, of `most` at a time.

    Raises ConnectionError if the connection ends before it.
    """
    received = await wire.read(most)
    if not received:
        msg = "the connection ended in the middle of a body"
        raise ConnectionAbortedError(msg)
    count = body.take(received)
    if count < len(received):
        wire.unread(received[count:])
        received = received[:count]
    return received
