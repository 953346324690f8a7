"""How much of an answer of podman is read: each is bounded in bytes, as its request is in time.

The bounds are made for a store of 10,000 images with labels. podman 4.3.1 lists an image in about 700 bytes, and in
1 to 2 KB with two names, two digests and ten labels: 20 MB for all of them.

| answer                 | bytes | seconds | beyond it                                         |
|------------------------|------:|--------:|---------------------------------------------------|
| a listing              | 64 Mi |     300 | the pass fails and is tried again                 |
| one image              | 16 Mi |      30 | that image fails: its labels come three times     |
| `/info`, `/version`    |  1 Mi |      30 | the look fails, or the version stays unknown      |
| an error               | 64 Ki |      30 | the rest is not read                              |
| one event              |  1 Mi |       - | it is passed over, and is a reason to look        |
| a program's output     | 16 Mi |     300 | the program is killed                             |
| a program's last words | 64 Ki |     300 | only the last are kept                            |
"""

from collections.abc import AsyncIterator

import aiohttp

from bridge.errors import BadAnswerError

_MEBI = 1 << 20
LISTING = 64 * _MEBI
IMAGE = 16 * _MEBI
SMALL = _MEBI
PROBLEM = 64 << 10
EVENT = _MEBI
OUTPUT = 16 * _MEBI
WORDS = 64 << 10


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body of an answer; raise BadAnswerError as soon as it has more than `limit` bytes."""
    content, rest = await _take(response.content, limit)
    if rest:
        response.close()
        msg = f"podman's answer to {response.url.path} is too long: more than {limit} bytes"
        raise BadAnswerError(msg)
    return content


async def read_problem(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of an error: its words stand there."""
    content, rest = await _take(response.content, PROBLEM)
    if rest:
        response.close()
    return content


async def _take(content: aiohttp.StreamReader, limit: int) -> tuple[bytes, bool]:
    """Return at most `limit` bytes, and whether there are more."""
    found = bytearray()
    async for chunk in content.iter_any():
        found += chunk
        if len(found) > limit:
            return bytes(found[:limit]), True
    return bytes(found), False


async def lines(content: aiohttp.StreamReader, limit: int = EVENT) -> AsyncIterator[bytes | None]:
    """Yield each line, and None in place of one that has more than `limit` bytes, of which no more is kept."""
    line = bytearray()
    async for chunk in content.iter_any():
        for part in chunk.splitlines(keepends=True):
            line += part[: limit + 1 - len(line)]
            if part.endswith(b"\n"):
                yield None if len(line) > limit else bytes(line)
                line.clear()
    if line:
        yield None if len(line) > limit else bytes(line)
