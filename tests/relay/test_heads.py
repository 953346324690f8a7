"""Requests that two readers could take for different things: none of them reaches podman."""

import asyncio
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidError
from bridge.relay.bodies import Chunked
from bridge.relay.heads import LONGEST, Request
from tests.relay.rig import Rig, request_head

HIDDEN = b"POST /v4.0.0/libpod/containers/create HTTP/1.1\r\nHost: d\r\n\r\n"

DOUBTFUL = {
    "both lengths": b"GET /_ping HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"GET /_ping HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\n",
    "a list of lengths": b"GET /_ping HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n",
    "a signed length": b"GET /_ping HTTP/1.1\r\nContent-Length: +0\r\n\r\n",
    "a hexadecimal length": b"GET /_ping HTTP/1.1\r\nContent-Length: 0x0\r\n\r\n",
    "no length": b"GET /_ping HTTP/1.1\r\nContent-Length: \r\n\r\n",
    "another coding": b"GET /_ping HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
    "two codings": b"GET /_ping HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a doubled coding": b"GET /_ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "chunks of an old client": b"GET /_ping HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"GET /_ping HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
    "a folded field": b"GET /_ping HTTP/1.1\r\nX: y\r\n Content-Length: 5\r\n\r\n",
    "a bare line feed": b"GET /_ping HTTP/1.1\r\nX: y\nContent-Length: 5\r\n\r\n",
    "a bare carriage return": b"GET /_ping HTTP/1.1\r\nX: y\rContent-Length: 5\r\n\r\n",
    "only line feeds": b"GET /_ping HTTP/1.1\nHost: d\n\n",
    "a NUL": b"GET /_ping HTTP/1.1\r\nX: \0\r\n\r\n",
    "a form feed": b"GET /_ping HTTP/1.1\r\nTransfer-Encoding:\x0cchunked\r\n\r\n0\r\n\r\n",
    "a field without a name": b"GET /_ping HTTP/1.1\r\n: x\r\n\r\n",
    "an absolute target": b"GET http://d/containers/web/json HTTP/1.1\r\n\r\n",
    "an authority": b"CONNECT d:80 HTTP/1.1\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\n\r\n",
    "a space in the target": b"GET /_ping /x HTTP/1.1\r\n\r\n",
    "a tab between": b"GET\t/_ping HTTP/1.1\r\n\r\n",
    "another version": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /_ping\r\n\r\n",
    "a leading empty line": b"\r\nGET /_ping HTTP/1.1\r\n\r\n",
    "a greeting of TLS": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a method in lower case": b"get /_ping HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("doubtful", DOUBTFUL.values(), ids=DOUBTFUL)
async def test_a_request_in_doubt_is_refused_and_nothing_of_it_reaches_podman(rig: Rig, doubtful: bytes) -> None:
    reached: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read())

    async with rig.upstream(handle):
        answer = await rig.say(doubtful + HIDDEN, end=False)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"\r\n\r\n") == 1
    assert b"\r\nContent-Type: application/json\r\n" in answer
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (set(told), told["response"]) == ({"cause", "message", "response"}, 400)
    assert not reached


@pytest.mark.parametrize(
    "body",
    [
        b"5;a=b\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"-1\r\n",
    ],
)
async def test_a_body_in_doubt_ends_the_connection_before_what_follows_it(rig: Rig, body: bytes) -> None:
    reached = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.extend(await request_head(reader))
        reached.extend(await reader.read())

    async with rig.upstream(handle):
        await rig.say(b"POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body + HIDDEN, end=False)
    assert HIDDEN not in reached


async def test_a_head_that_never_ends_is_refused(rig: Rig) -> None:
    async with rig.relaying():
        answer = await rig.say(b"GET /_ping HTTP/1.1\r\nX: " + b"x" * (LONGEST + 10), end=False)
    assert answer.startswith(b"HTTP/1.1 431 ")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error(content: bytes) -> None:
    raw = content + b"\r\n\r\n"
    try:
        request = Request.parse(raw)
    except InvalidError:
        return
    assert request.raw == raw


@given(st.lists(st.binary(min_size=1, max_size=40)), st.lists(st.integers(1, 7), min_size=1), st.binary(max_size=9))
def test_chunks_end_where_they_end_however_they_arrive(parts: list[bytes], steps: list[int], behind: bytes) -> None:
    whole = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    body, content, place = Chunked(strict=True), b"", 0
    for step in itertools.cycle(steps):
        piece = (whole + behind)[place : place + step]
        count = body.take(piece)
        content += body.content(piece[:count])
        place += count
        if body.done:
            break
        assert count == len(piece) > 0
    assert place == len(whole)
    assert content == b"".join(parts)
