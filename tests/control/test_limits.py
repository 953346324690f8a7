"""What a client of the control socket may cost, and how it is told; and one that closes its side is answered."""

import asyncio
import json
import socket
from functools import partial

import pytest

from bridge.control import server
from bridge.limits import Limits
from tests.double.gates import DEADLINE, eventually
from tests.faults.world import World

STATUS = b"GET /bridge/v1/status HTTP/1.1\r\nHost: d\r\n\r\n"
EVENTS = b"GET /bridge/v1/events HTTP/1.1\r\nHost: d\r\n\r\n"


async def said(world: World, content: bytes, *, end: bool) -> bytes:
    """Send bytes, end that side or not, and return everything up to the other side's end."""
    reader, writer = await asyncio.open_unix_connection(world.control)
    writer.write(content)
    if end:
        writer.write_eof()
    try:
        async with asyncio.timeout(DEADLINE):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("count", [1, 3])
async def test_a_client_that_closes_its_side_is_answered_all_that_it_asked(world: World, count: int) -> None:
    async with world.podman(), world.service():
        answer = await said(world, STATUS * count, end=True)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == count
        body = b'{"image": "localhost/none:1"}'
        head = b"POST /bridge/v1/publications HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await said(world, head + body, end=True)).startswith(b"HTTP/1.1 404 ")
        assert await said(world, STATUS[:20], end=True) in (b"", b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_head_without_an_end_is_refused_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "Limits", partial(Limits, head_seconds=0.3))
    async with world.podman(), world.service():
        answer = await said(world, STATUS[:-2], end=False)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["response"] == 408


async def test_idle_connections_keep_no_command_from_its_answer(world: World) -> None:
    async with world.podman(), world.service():
        idle = []
        for _ in range(400):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(world.control))
            idle.append(client)
            await asyncio.sleep(0)
        assert (await world.status())["version"]
        first = idle[0]
        first.settimeout(DEADLINE)
        answer = await asyncio.to_thread(first.recv, 4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        for client in idle:
            client.close()


async def test_streams_are_limited_and_a_refused_one_costs_no_connection(world: World) -> None:
    async with world.podman(), world.service():
        streams = [await asyncio.open_unix_connection(world.control) for _ in range(140)]
        for _, writer in streams:
            writer.write(EVENTS)
        async with asyncio.timeout(DEADLINE):
            heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in streams))
        served = [head for head in heads if head.startswith(b"HTTP/1.1 200 ")]
        refused = [head for head in heads if head.startswith(b"HTTP/1.1 503 ")]
        assert (len(served), len(refused)) == (128, 12)
        assert all(b"Retry-After: 1\r\n" in head for head in refused)
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        for _, writer in streams:
            writer.close()

        async def is_served() -> bool:
            return b"HTTP/1.1 200 " in await first_of(world, EVENTS)

        await eventually(is_served)


async def first_of(world: World, content: bytes) -> bytes:
    """Send bytes, and return the first that come."""
    reader, writer = await asyncio.open_unix_connection(world.control)
    writer.write(content)
    try:
        async with asyncio.timeout(DEADLINE):
            return await reader.read(4096)
    finally:
        writer.close()
