"""The relay on upstreams that behave as a test wants."""

import asyncio
import hashlib
import json
import os
import socket

import pytest

from bridge.config import Profile
from bridge.relay.wire import Wire
from tests.relay.rig import REGISTRY, Rig, descriptors, hung_up, request_head, until

PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
CLOSING = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
MEGABYTES_30 = 30_000_000


@pytest.mark.parametrize(
    "target",
    [
        b"/v4.0.0/libpod/images/localhost%2Fapp%3A1/json",
        b"//v4.0.0//libpod/images/../x/./json",
        b"/v1.41/build?buildargs=%7B%22A%22%3A%22" + b"x" * 9000 + b"%22%7D&t=a&t=b",
        b"/v1.41/images/json?filters={%22a%22:[%22b%22]}&all=1;x",
    ],
)
async def test_a_request_reaches_podman_byte_by_byte(rig: Rig, target: bytes) -> None:
    request = b"POST " + target + b" HTTP/1.1\r\nhOsT:d\r\nX-Odd:  a  \r\nContent-Length: 5\r\n\r\nhello"
    got = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.readexactly(len(request)))
        writer.write(OK)

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(request)
        assert await reader.readexactly(len(OK)) == OK
        writer.close()
    assert bytes(got) == request


@pytest.mark.parametrize("head", [b"101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp", b"200 OK"])
@pytest.mark.parametrize("eager", [True, False])
async def test_a_hijacked_connection_carries_30_megabytes_each_way_after_a_half_close(
    rig: Rig, head: bytes, eager: bool
) -> None:
    stdin, stdout = os.urandom(MEGABYTES_30), os.urandom(MEGABYTES_30)
    digests: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        await reader.readexactly(2)
        kind = b"Content-Type: application/vnd.docker.raw-stream"
        writer.write(b"HTTP/1.1 " + head + b"\r\n" + kind + b"\r\n\r\n")
        digests.append(hashlib.sha256(await reader.read()).hexdigest())
        writer.write(stdout)
        await writer.drain()

    request = b"POST /v4.0.0/libpod/exec/x/start HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}"
    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(request + (stdin if eager else b""))
        await request_head(reader)
        if not eager:
            writer.write(stdin)
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == stdout
        writer.close()
    assert digests == [hashlib.sha256(stdin).hexdigest()]


async def test_a_process_that_ends_ends_a_client_that_still_could_write(rig: Rig) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(b"HTTP/1.1 101 UPGRADED\r\n\r\nbye")

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(b"POST /containers/x/attach HTTP/1.1\r\nHost: d\r\n\r\n")
        assert (await reader.read()).endswith(b"bye")
        await until(lambda: hung_up(writer))
        writer.close()


async def test_a_slow_reader_gets_every_byte_once() -> None:
    content = os.urandom(3_000_000)
    ours, theirs = socket.socketpair()
    with Wire(ours) as wire, theirs:
        writing = asyncio.create_task(wire.write(content))
        got = bytearray()
        while len(got) < len(content):
            got += await asyncio.to_thread(theirs.recv, 7001)
        await writing
    assert got == content


async def test_a_client_that_leaves_a_silent_process_leaves_podman_too(rig: Rig) -> None:
    left = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
        await reader.read()
        while not writer.is_closing():  # it may still be half of a connection: then this can be written
            writer.write(b"x")
            await asyncio.sleep(0)
        left.set()

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(b"POST /containers/x/attach HTTP/1.1\r\nHost: d\r\n\r\n")
        await request_head(reader)
        writer.close()
        async with asyncio.timeout(5):
            await left.wait()


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nhell\r\n1\r\no\r\n0\r\nT: z\r\n\r\n"),
    ],
)
async def test_an_answer_ends_where_it_ends_and_the_connection_goes_on(rig: Rig, method: bytes, answer: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if b"/_ping" in await request_head(reader) else answer)
        await reader.read()

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        for _ in range(2):
            writer.write(method + b" /x HTTP/1.1\r\nHost: d\r\n\r\n" + PING)  # pipelined
            assert await reader.readexactly(len(answer) + len(OK)) == answer + OK
        writer.close()


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    ],
)
async def test_half_an_answer_is_never_taken_for_a_whole_one(rig: Rig, begun: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(begun)

    for path in (b"/images/json", b"/events"):
        async with rig.upstream(handle):
            answer = await rig.say(b"GET " + path + b" HTTP/1.1\r\nHost: d\r\n\r\n", end=False)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"\r\n0\r\n" not in answer
        assert not answer.endswith(b"hellohello")


@pytest.mark.parametrize("path", [b"/events?stream=true", b"/containers/x/wait"])
@pytest.mark.parametrize("streams", [True, False])
async def test_a_client_that_leaves_leaves_no_connection_to_podman(rig: Rig, path: bytes, streams: bool) -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        if streams:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read()
        gone.set()

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: d\r\n\r\n")
        if streams:
            await request_head(reader)
        else:
            await writer.drain()
        writer.close()
        async with asyncio.timeout(5):
            await gone.wait()


async def test_no_descriptor_is_left_after_many_exchanges(rig: Rig) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(OK)

    async with rig.upstream(handle):
        await rig.say(CLOSING, end=False)
        before = descriptors()
        for _ in range(50):
            assert await rig.say(CLOSING, end=False) == OK
        await until(lambda: descriptors() <= before)


async def test_an_old_client_gets_an_old_answer(rig: Rig) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await request_head(reader)).startswith(b"GET /_ping HTTP/1.0\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nOK without a length")

    async with rig.upstream(handle):
        answer = await rig.say(b"GET /_ping HTTP/1.0\r\n\r\n", end=False)
    assert answer == b"HTTP/1.0 200 OK\r\n\r\nOK without a length"


async def test_leave_to_send_a_body_is_podmans_to_give(rig: Rig) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(10) == b"5\r\nhello\r\n"
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.write(OK)

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(b"POST /build HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert await request_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"5\r\nhello\r\n0\r\n\r\n")
        assert await reader.readexactly(len(OK)) == OK
        writer.close()


async def test_an_early_answer_reaches_a_client_that_is_still_sending(rig: Rig) -> None:
    refusal = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(refusal)

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(b"POST /build HTTP/1.1\r\nHost: d\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1_000_000)
        assert await reader.read() == refusal
        writer.close()


async def test_a_refused_client_may_finish_sending_and_read_why(rig: Rig) -> None:
    rig.profile = Profile.READ
    async with rig.relaying():
        reader, writer = await rig.connect()
        writer.write(b"POST /build HTTP/1.1\r\nHost: d\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(20):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nContent-Type: application/json\r\n" in head
    told = json.loads(body)
    assert told["response"] == 403
    assert "profile: full" in told["message"]


@pytest.mark.parametrize("path", ["/images/app/push?tag=1", "/v4.0.0/libpod/images/app/push?destination=quay.io/app:1"])
async def test_a_push_elsewhere_is_told_where_it_may_go(rig: Rig, path: str) -> None:
    """Who forgot the registry's address must not think that he needs `full`, which is root."""
    rig.profile = Profile.PUBLISH
    async with rig.relaying():
        answer = await rig.say(f"POST {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode(), end=False)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert f"what is pushed to {REGISTRY}/NAME:TAG is published".encode() in answer


async def test_podman_away_is_said_in_podmans_own_form(rig: Rig) -> None:
    async with rig.relaying():
        answer = await rig.say(CLOSING, end=False)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nContent-Type: application/json\r\n" in head
        told = json.loads(body)
        assert set(told) == {"cause", "message", "response"}
        assert f"podman does not answer on {rig.podman}" in told["message"]


@pytest.mark.parametrize(("garbage", "status"), [(b"", b"503"), (b"SSH-2.0-x\r\n\r\n", b"500")])
async def test_a_podman_that_says_nothing_of_use_is_an_error(rig: Rig, garbage: bytes, status: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(garbage)

    async with rig.upstream(handle):
        answer = await rig.say(PING + CLOSING, end=False)
    assert answer.count(b"HTTP/1.1 " + status) == 2


@pytest.mark.parametrize("profile", [Profile.READ, Profile.PUBLISH])
@pytest.mark.parametrize(
    "head", [b"101 UPGRADED\r\n", b"200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"]
)
async def test_without_full_no_byte_behind_a_request_reaches_podman(rig: Rig, profile: Profile, head: bytes) -> None:
    rig.profile = profile
    got: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(b"HTTP/1.1 " + head + b"\r\n")
        await asyncio.sleep(0.05)
        writer.write_eof()
        got.append(await reader.read())

    async with rig.upstream(handle):
        await rig.say(PING + b"POST /containers/create HTTP/1.1\r\nHost: d\r\n\r\n", end=False)
        await until(lambda: bool(got))
    assert got == [b""]


async def test_the_floor_raises_what_is_announced_and_nothing_else(rig: Rig) -> None:
    rig.floor = "1.44"
    told = json.dumps({"Version": "4.3.1", "ApiVersion": "1.41"}).encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await request_head(reader)
        content = told if b"/version" in head else b"OK"
        length = b"" if head.startswith(b"HEAD") else b"Content-Length: %d\r\n" % len(content)
        writer.write(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\n" + length + b"\r\n")
        writer.write(content if length else b"")
        await reader.read()

    async with rig.upstream(handle):
        ping, head, version = [
            await rig.say(request + b" HTTP/1.1\r\nConnection: close\r\n\r\n", end=False)
            for request in (b"GET /v1.41/_ping", b"HEAD /_ping", b"GET /v1.40/version")
        ]
    for answer in (ping, head, version):
        assert b"\r\nApi-Version: 1.44\r\nLibpod-Api-Version: 4.3.1\r\n" in answer
    assert ping.endswith(b"Content-Length: 2\r\n\r\nOK")
    assert json.loads(version.partition(b"\r\n\r\n")[2]) == {"Version": "4.3.1", "ApiVersion": "1.44"}


async def test_with_a_floor_an_error_that_ends_with_the_connection_is_delivered_too(rig: Rig) -> None:
    """So podman answers a request without `Host`, and others that its server refuses by itself."""
    rig.floor = "1.44"
    refusal = b"HTTP/1.1 400 Bad Request: missing Host\r\nConnection: close\r\n\r\n400 Bad Request: missing Host"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(refusal)

    async with rig.upstream(handle):
        assert await rig.say(b"GET /_ping HTTP/1.1\r\n\r\n", end=False) == refusal
