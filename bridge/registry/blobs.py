"""Sending a blob, whole or in ranges: small ones from memory, large ones from the file to the socket by the kernel."""

import asyncio
import errno
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import BinaryIO, Never

from aiohttp import ClientConnectionError, web

from bridge.config import EncodingsConfig
from bridge.errors import TreeError
from bridge.oci import Digest
from bridge.registry import ready
from bridge.registry.accounting import Streamed
from bridge.registry.connection import Request
from bridge.registry.encoding import GZIP, choose
from bridge.registry.errors import Problem, RegistryError
from bridge.registry.exceptions import takes_identity_only
from bridge.registry.headers import Headers, immutable, not_modified, of_blob, of_encoding
from bridge.registry.ranges import Span, select

log = logging.getLogger(__name__)

_SMALL = 64 * 1024
"""Bytes up to which a blob, or a part of one, is read into memory and leaves in one write with its headers."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is sent: a head, then bytes of our own and spans of the file, in order."""

    status: int
    headers: Mapping[str, str]
    source: bytes | BinaryIO
    pieces: Sequence[bytes | Span]


async def send_blob(request: web.BaseRequest, source: bytes | BinaryIO, digest: Digest) -> web.StreamResponse:
    """Answer with the blob `digest`, its bytes or its open file, or with the ranges of it that were asked for.

    Memory stays the same whatever the size of the blob and the pace of its reader. Raises
    ConnectionError where the client went away.
    """
    about = of_blob(digest, immutable(request))
    headers = about.headers
    if unchanged := not_modified(request, headers):
        return unchanged
    size = len(source) if isinstance(source, bytes) else os.fstat(source.fileno()).st_size
    spans = _wanted(request, headers["ETag"], size)
    if spans is None and isinstance(source, bytes):
        return ready.answer(request, about, source)
    if spans is None:
        return await _send(request, _Answer(200, headers, source, (Span(0, size),)))
    if not spans:
        raise RegistryError(Problem.RANGE_INVALID, None, {"Content-Range": f"bytes */{size}"})
    if len(spans) == 1:
        part = {**headers, "Content-Range": spans[0].content_range(size)}
        return await _send(request, _Answer(206, part, source, spans))
    return await _send(request, _in_parts(headers, source, spans, size))


async def send_encoding(request: web.BaseRequest, file: BinaryIO, digest: Digest) -> web.StreamResponse:
    """Answer with the open gzip encoding of the blob `digest`, whole. Raises as `send_blob` does."""
    headers = of_encoding(digest, GZIP, immutable(request)).headers
    if unchanged := not_modified(request, headers):
        return unchanged
    size = os.fstat(file.fileno()).st_size
    return await _send(request, _Answer(200, headers, file, (Span(0, size),)))


def takes_encoding(request: web.BaseRequest, encodings: EncodingsConfig) -> bool:
    """Return True if the client is to get a blob's encoding if there is one.

    Not for a HEAD, nor for a range: both tell of the blob's own bytes. Not for a client that cannot put encoded parts
    together. For a client on this machine, for which no wire is slow enough to unpack for, only if the settings say so.
    """
    headers = request.headers
    if request.method != "GET" or "Range" in headers:
        return False
    if choose(",".join(headers.getall("Accept-Encoding", ())), GZIP) != GZIP:
        return False
    if takes_identity_only(headers.getall("User-Agent", ()), encodings.except_):
        return False
    return encodings.loopback or not _is_local(request)


def _is_local(request: web.BaseRequest) -> bool:
    """Say whether the client is on this machine: on loopback, or at the address that it called."""
    if request.transport is None:
        return False
    peer, called = (request.transport.get_extra_info(end) for end in ("peername", "sockname"))
    if not isinstance(peer, tuple):
        return True  # a unix socket
    address = ip_address(peer[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback) or peer[0] == called[0]


def _wanted(request: web.BaseRequest, etag: str, size: int) -> tuple[Span, ...] | None:
    """Return the spans to send; None for all of it. A `Range` counts for GET only, and if `If-Range` agrees."""
    header = request.headers.get("Range")
    if header is None or request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    return select(header, size)


def _in_parts(headers: Headers, source: bytes | BinaryIO, spans: tuple[Span, ...], size: int) -> _Answer:
    """Make it `multipart/byteranges`: https://www.rfc-editor.org/rfc/rfc9110.html#section-14.6 ."""
    boundary = secrets.token_hex(16)
    kind = headers["Content-Type"]
    pieces: list[bytes | Span] = []
    for span in spans:
        head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {span.content_range(size)}\r\n\r\n"
        pieces += [head.encode(), span]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return _Answer(206, {**headers, "Content-Type": f"multipart/byteranges; boundary={boundary}"}, source, pieces)


async def _send(request: web.BaseRequest, answer: _Answer) -> web.StreamResponse:
    length = sum(map(len, answer.pieces))
    if length <= _SMALL:
        body = b"".join(_read(answer.source, piece) for piece in answer.pieces)
        return web.Response(status=answer.status, headers=answer.headers, body=body)
    response = Streamed(status=answer.status, headers=answer.headers)
    response.content_length = length
    await response.prepare(request)
    assert isinstance(request, Request)  # noqa: S101
    if request.method == "GET":
        request.connection.begin_to_stream()
        try:
            await _stream(request, response, answer)
        except (OSError, ClientConnectionError, TreeError) as error:
            _abort(request, response, error)
    await response.write_eof()
    return response


async def _stream(request: web.BaseRequest, response: Streamed, answer: _Answer) -> None:
    """Send the pieces in order: small ones are gathered, large spans go by sendfile."""
    gathered = bytearray()
    for piece in answer.pieces:
        large = isinstance(piece, Span) and len(piece) > _SMALL
        if gathered and (large or len(gathered) > _SMALL):
            await _write(response, bytes(gathered))
            gathered.clear()
        if isinstance(piece, Span) and large and not isinstance(answer.source, bytes):
            await _sendfile(request, response, answer.source, piece)
        else:
            gathered += _read(answer.source, piece)
    if gathered:
        await _write(response, bytes(gathered))


async def _write(response: Streamed, content: bytes) -> None:
    await response.write(content)
    response.sent += len(content)


async def _sendfile(request: web.BaseRequest, response: Streamed, file: BinaryIO, span: Span) -> None:
    """Send a span of a file, by the kernel where it can: not with TLS, nor from every file system."""
    transport = request.transport
    if transport is None or transport.is_closing():
        msg = "the client went away"
        raise ConnectionResetError(msg)
    file.seek(span.start)
    begun = response.sent
    encrypted = transport.get_extra_info("sslcontext") is not None
    if encrypted or not await _by_kernel(transport, response, file, span):
        await _copy(response, file, span)
    if response.sent - begun != len(span):
        msg = f"a blob ended at byte {span.start + response.sent - begun}"
        raise TreeError(msg)


async def _by_kernel(transport: asyncio.Transport, response: Streamed, file: BinaryIO, span: Span) -> bool:
    """Return False if the kernel sends nothing of this file, or to this client."""
    try:
        await asyncio.get_running_loop().sendfile(transport, file, span.start, len(span), fallback=False)
    except asyncio.SendfileNotAvailableError:
        return False
    finally:
        response.sent += file.tell() - span.start  # asyncio leaves it behind the last byte that went
    return True


async def _copy(response: Streamed, file: BinaryIO, span: Span) -> None:
    """Send a span through memory. asyncio's own way fails in places of its own if the client leaves meanwhile."""
    loop, left = asyncio.get_running_loop(), len(span)
    while left and (content := await loop.run_in_executor(None, file.read, min(left, _SMALL))):
        await _write(response, content)
        left -= len(content)


def _read(source: bytes | BinaryIO, piece: bytes | Span) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(source, bytes):
        return source[piece.start : piece.stop]
    content = os.pread(source.fileno(), len(piece), piece.start)
    if len(content) != len(piece):
        msg = f"a blob ended at byte {piece.start + len(content)}"
        raise TreeError(msg)
    return content


def _abort(request: Request, response: Streamed, error: Exception) -> Never:
    """Cut the connection: its header promised more bytes than will come. A client that left is no news."""
    if isinstance(error, TreeError) or (isinstance(error, OSError) and error.errno == errno.EIO):
        log.error("tree is damaged path=%r error=%r", request.path, str(error))
    if request.transport is not None:
        request.transport.abort()
    request.connection.log_access(request, response, None)
    msg = "the response was cut"
    raise ConnectionAbortedError(msg) from error
