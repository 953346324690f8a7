"""Heads of HTTP/1 messages: read strictly, passed on as they came.

A request is read so that podman's server cannot read it otherwise: what two readers may take for
different things (RFC 9112, 11.2) is refused.
"""

import re
from dataclasses import dataclass
from typing import Self

from bridge.errors import BusyError, InvalidError
from bridge.limits import Held
from bridge.relay.bodies import Body, Chunked, Endless, Sized
from bridge.relay.wire import AHEAD, Wire

LONGEST = 1024 * 1024
"""Bytes of the longest head; podman's own server reads as much (docker puts build arguments into it)."""

_MOST_FIELDS = 100
"""Fields in one head. Each costs some hundred bytes of objects, however short it is."""

_REQUEST = re.compile(r"([A-Z]+) (/[\x21-\x7e]*) HTTP/1\.([01])")
_ANSWER = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_BARE = re.compile(rb"(?<!\r)\n|\r(?![\n]|\Z)|\0")


class RequestError(InvalidError):
    """A request is refused for its form; `status` is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """What requests and answers have in common. Names are in lower case, `raw` are the bytes as they came."""

    minor: int
    fields: tuple[tuple[str, str], ...]
    raw: bytes

    def values(self, name: str) -> list[str]:
        """Return every value of a field, in order."""
        return [value for key, value in self.fields if key == name]

    def has(self, name: str, token: str) -> bool:
        """Say whether a field that lists tokens lists this one."""
        return any(token == part.strip().lower() for value in self.values(name) for part in value.split(","))

    @property
    def persists(self) -> bool:
        """Whether its sender keeps the connection for another exchange."""
        return not self.has("connection", "close") if self.minor else self.has("connection", "keep-alive")


@dataclass(frozen=True, slots=True)
class Request(Head):
    """A request's head. `target` is a path with or without a query, as it came."""

    method: str
    target: str

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a head up to and with its empty line; raise InvalidError for anything that is in doubt."""
        if _BARE.search(raw):
            msg = "the request's head has a bare CR, LF or NUL in it"
            raise InvalidError(msg)
        if raw.count(b"\n") > _MOST_FIELDS + 2:
            raise RequestError(431, f"the request's head has more than {_MOST_FIELDS} fields")
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        match = _REQUEST.fullmatch(first)
        if match is None:
            msg = f"not a request that is understood: {first[:80]!r}; expected METHOD /PATH HTTP/1.1"
            raise InvalidError(msg)
        return cls(int(match[3]), tuple(map(_field, lines)), raw, match[1], match[2])

    def body(self) -> Body:
        """Return what follows the head; raise InvalidError where that is in doubt."""
        codings, lengths = self.values("transfer-encoding"), self.values("content-length")
        if codings:
            if lengths or len(codings) > 1 or codings[0].strip().lower() != "chunked" or not self.minor:
                msg = "the request's length is in doubt: expected Transfer-Encoding: chunked alone, or Content-Length"
                raise InvalidError(msg)
            return Chunked(strict=True)
        return Sized(_length(lengths))

    @property
    def awaits_leave(self) -> bool:
        """Whether the client sends its body only after `100 Continue`."""
        return bool(self.minor) and self.has("expect", "100-continue")


@dataclass(frozen=True, slots=True)
class Answer(Head):
    """An answer's head."""

    status: int

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a head up to and with its empty line; raise InvalidError for anything else."""
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        match = _ANSWER.fullmatch(first)
        if match is None:
            msg = f"podman answered no HTTP: {first[:80]!r}"
            raise InvalidError(msg)
        return cls(int(match[1]), tuple(map(_field, lines)), raw, int(match[2]))

    def body(self, method: str) -> Body:
        """Return what follows the head of the answer to a request of that method (RFC 9112, 6.3)."""
        if method == "HEAD" or self.status in (204, 304) or self.interim:
            return Sized(0)
        if self.has("transfer-encoding", "chunked"):
            return Chunked(strict=False)
        lengths = self.values("content-length")
        return Sized(_length(lengths)) if lengths else Endless()

    @property
    def interim(self) -> bool:
        """Whether the answer proper is still to come."""
        return 100 <= self.status < 200 and self.status != 101


def _field(line: str) -> tuple[str, str]:
    match = _FIELD.fullmatch(line)
    if match is None:
        msg = f"not a header field: {line[:80]!r}"
        raise InvalidError(msg)
    return match[1].lower(), match[2].rstrip(" \t")


def _length(values: list[str]) -> int:
    if not values:
        return 0
    if len(values) > 1 or not re.fullmatch(r"[0-9]{1,18}", values[0]):
        msg = f"not a length of a body: {', '.join(values)[:80]!r}"
        raise InvalidError(msg)
    return int(values[0])


async def read_head(wire: Wire, held: Held | None = None) -> bytes | None:
    """Read a head with its empty line; return None if the peer ends before its first byte.

    What is read of it is counted in `held` until it is complete. Raises InvalidError for one that is too long or has
    bare line ends, BusyError if more is held than there may be, ConnectionError if it is cut off.
    """
    seen = 0
    try:
        while (end := wire.unused.find(b"\r\n\r\n", max(0, seen - 3))) < 0:
            _check(wire.unused, max(0, seen - 1))
            if held is not None:
                held.change(len(wire.unused) - seen)
            seen = len(wire.unused)
            if held is not None and held.is_full:
                msg = "too many requests are incomplete; try again soon"
                raise BusyError(msg)
            if not await wire.fill(AHEAD):
                if not wire.unused:
                    return None
                msg = "the connection ended in the middle of a head"
                raise ConnectionAbortedError(msg)
    finally:
        if held is not None:
            held.change(-seen)
    raw = bytes(wire.unused[: end + 4])
    del wire.unused[: end + 4]
    return raw


def _check(begun: bytearray, place: int) -> None:
    """Raise InvalidError for the beginning of a head, looked at up to `place`, that cannot become one."""
    if len(begun) > LONGEST:
        raise RequestError(431, f"the head is longer than {LONGEST} bytes")
    if _BARE.search(begun, place):
        msg = "not a head of HTTP/1: its lines do not end with CR LF"
        raise InvalidError(msg)
