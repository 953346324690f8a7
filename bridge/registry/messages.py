"""What the parent and its workers tell each other: one JSON value in a line.

The parent writes one `Order` to a worker's standard input, then what it asks for, and leaves it open: its end is the
end of the parent. The worker writes messages to its standard output; its standard error is the parent's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bridge.config import EncodingsConfig, RegistryConfig
from bridge.registry.traffic import Traffic

LONGEST = 64 * 1024
"""Characters of a log line that a worker passes on."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to serve, and the file descriptor of the socket on which."""

    listener: int
    tree: Path
    registry: RegistryConfig
    encodings: EncodingsConfig


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Accept nobody until `Resume`, and say who is there, with this number."""

    number: int


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Accept as before."""


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Say that you are there."""


class Pong(msgspec.Struct, frozen=True, tag=True):
    """The worker is there."""


class Accepting(msgspec.Struct, frozen=True, tag=True):
    """The worker accepts connections."""


class Line(msgspec.Struct, frozen=True, tag=True):
    """A line for the log, whole and as `logs.parted` takes it apart."""

    level: int
    logger: str
    text: str
    words: str
    pairs: dict[str, str | int | float | bool | None]


class Report(msgspec.Struct, frozen=True, tag=True):
    """What the worker has served since it began."""

    traffic: Traffic


class Damaged(msgspec.Struct, frozen=True, tag=True):
    """A blob is not what its digest names, and was not served."""

    digest: str


class Paused(msgspec.Struct, frozen=True, tag=True):
    """The worker accepts nobody since the `Pause` of that number; so many connections were open then."""

    number: int
    connections: int


Request = Pause | Resume | Ping
Message = Accepting | Line | Report | Paused | Damaged | Pong

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)

_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def write(value: Order | Request | Message) -> bytes:
    """Return the value as one line."""
    return msgspec.json.encode(value, enc_hook=str) + b"\n"


def read(line: bytes) -> Message:
    """Read a worker's line; raise msgspec.DecodeError for what is none."""
    return _messages.decode(line)


def read_request(line: bytes) -> Request:
    """Read a later line of the parent's; raise msgspec.DecodeError for what is none."""
    return _requests.decode(line)


def read_order(line: bytes) -> Order:
    """Read the parent's first line; raise msgspec.DecodeError for what is none."""
    return msgspec.json.decode(line, type=Order, dec_hook=_value)


def _value(kind: type, text: str) -> object:
    """Read a value that was written as its text: a duration, an address, a path."""
    parse: Callable[[str], object] = getattr(kind, "parse", kind)
    return parse(text)
