"""Where bodies end: each follows the bytes that pass through it, and keeps none of them."""

import re
from typing import Protocol

from bridge.errors import InvalidError

_LONGEST_LINE = 4096
"""Bytes of the longest line between chunks."""

_STRICT = re.compile(rb"[0-9A-Fa-f]{1,15}\r\n")
_TOLERANT = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")


class Body(Protocol):
    """The part of a connection that belongs to one message."""

    done: bool
    """Whether all of it has passed."""

    def take(self, content: bytes) -> int:
        """Say how many of the next bytes belong to it; raise InvalidError where they cannot."""

    def content(self, passed: bytes) -> bytes:
        """Return what the bytes that `take` counted last carry, without the framing."""


class Sized:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def take(self, content: bytes) -> int:
        """Count up to the length."""
        count = min(len(content), self._left)
        self._left -= count
        self.done = self._left == 0
        return count

    def content(self, passed: bytes) -> bytes:
        """Return the bytes as they are."""
        return passed


class Endless:
    """A body that ends with the connection."""

    done = False

    def take(self, content: bytes) -> int:
        """Count everything."""
        return len(content)

    def content(self, passed: bytes) -> bytes:
        """Return the bytes as they are."""
        return passed


class Chunked:
    """A body in chunks (RFC 9112, 7.1). A `strict` one has neither extensions nor trailers: requests need none."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._line = b""
        self._left = 0
        self._after = False  # the line end behind a chunk's bytes is still to come
        self._last = False
        self._spans: list[slice] = []
        self.done = False

    def take(self, content: bytes) -> int:
        """Count up to the line that ends the last chunk."""
        self._spans = []
        place = 0
        while place < len(content) and not self.done:
            if self._left:
                count = min(self._left, len(content) - place)
                self._spans.append(slice(place, place + count))
                self._left -= count
                place += count
            else:
                place = self._take_line(content, place)
        return place

    def content(self, passed: bytes) -> bytes:
        """Return the bytes of the chunks that were counted last."""
        return b"".join(passed[span] for span in self._spans)

    def _take_line(self, content: bytes, place: int) -> int:
        end = content.find(b"\n", place) + 1
        self._line += content[place : end or len(content)]
        if len(self._line) > _LONGEST_LINE:
            msg = f"not a chunk: {self._line[:40]!r}"
            raise InvalidError(msg)
        if not end:
            return len(content)
        line, self._line = self._line, b""
        self._end_line(line)
        return end

    def _end_line(self, line: bytes) -> None:
        if self._after:
            self._require(line == b"\r\n", line)
            self._after = False
        elif self._last:
            self.done = line.strip() == b""
            self._require(self.done or not self._strict, line)
        else:
            match = (_STRICT if self._strict else _TOLERANT).fullmatch(line)
            self._require(match is not None, line)
            self._left = int(line.partition(b";")[0], 16)
            self._last = self._left == 0
            self._after = not self._last

    def _require(self, fits: bool, line: bytes) -> None:
        if not fits:
            msg = f"not a chunk: {line[:40]!r}"
            raise InvalidError(msg)
