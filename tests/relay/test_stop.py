"""A stop: what is under way on the api socket gets its time, what never ends by itself gets none."""

import asyncio
import contextlib
import json
import signal
import time

import pytest

from bridge.listening import DRAIN
from bridge.podman.service import listens
from tests.double.gates import DEADLINE, eventually
from tests.faults.conftest import world
from tests.faults.world import World
from tests.relay.rig import Rig, request_head, until

__all__ = ["world"]

SAVE = b"GET /v4.0.0/libpod/images/export?references=a HTTP/1.1\r\nHost: d\r\n\r\n"
ENDLESS = {
    "idle": b"",
    "half a head": b"GET /events HTTP/1.1\r\n",
    "events": b"GET /v1.41/events HTTP/1.1\r\nHost: d\r\n\r\n",
    "attach": b"POST /v1.41/containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n",
    "upgrade": b"POST /session HTTP/1.1\r\nHost: d\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "logs": b"GET /v4.0.0/libpod/containers/x/logs?follow=true HTTP/1.1\r\nHost: d\r\n\r\n",
    "stats": b"GET /containers/x/stats HTTP/1.1\r\nHost: d\r\n\r\n",
    "wait": b"POST /containers/x/wait HTTP/1.1\r\nHost: d\r\n\r\n",
}


class Upstream:
    """A podman that sends half of an answer, and the rest when `over` is set; it leaves with its client."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        if (await request_head(reader)).startswith(b"POST /session"):
            writer.write(b"HTTP/1.1 101 UPGRADED\r\n\r\nsession")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbegun\n\r\n")
        over, left = asyncio.create_task(self.over.wait()), asyncio.create_task(reader.read())
        await asyncio.wait({over, left}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        left.cancel()
        if self.over.is_set():
            writer.write(b"4\r\ndone\r\n0\r\n\r\n")


async def test_what_is_under_way_ends_in_order_and_nobody_new_is_let_in(rig: Rig) -> None:
    upstream, stack = Upstream(), contextlib.AsyncExitStack()
    await stack.enter_async_context(rig.upstream(upstream))
    reader, writer = await rig.connect()
    writer.write(SAVE)
    await reader.readuntil(b"begun\n")
    stopping = asyncio.create_task(stack.aclose())
    await until(lambda: not listens(rig.api))
    assert not stopping.done()
    upstream.over.set()
    async with asyncio.timeout(DEADLINE):
        assert (await reader.read()).endswith(b"4\r\ndone\r\n0\r\n\r\n")
        await stopping
    writer.close()


async def test_what_takes_longer_than_its_time_is_cut(rig: Rig) -> None:
    rig.patience = 0.3
    upstream, stack = Upstream(), contextlib.AsyncExitStack()
    await stack.enter_async_context(rig.upstream(upstream))
    reader, writer = await rig.connect()
    writer.write(SAVE)
    await reader.readuntil(b"begun\n")
    begun = time.monotonic()
    await stack.aclose()
    assert 0.2 < time.monotonic() - begun < DRAIN
    assert b"0\r\n\r\n" not in await reader.read()
    writer.close()


@pytest.mark.parametrize("request_sent", ENDLESS.values(), ids=ENDLESS)
async def test_what_never_ends_by_itself_is_ended_at_once(rig: Rig, request_sent: bytes) -> None:
    rig.patience = 2 * DEADLINE
    upstream, stack = Upstream(), contextlib.AsyncExitStack()
    await stack.enter_async_context(rig.upstream(upstream))
    reader, writer = await rig.connect()
    writer.write(request_sent)
    if request_sent.endswith(b"\r\n\r\n"):
        await reader.readuntil(b"begun\n" if b"/session" not in request_sent else b"session")
    async with asyncio.timeout(DEADLINE):
        await stack.aclose()
        with contextlib.suppress(ConnectionResetError):  # nobody had accepted it yet
            assert b"done" not in await reader.read()
    writer.close()


async def test_a_push_under_way_at_sigterm_is_published_and_told(world: World) -> None:
    api = world.directory / "api"
    world.settings |= {
        "api": {"socket": str(api), "profile": "publish"},
        "publish": [{"match": "*", "skip": True}],
        "encodings": {"space": "0MB"},
    }
    held = world.double.gate("save")
    async with world.podman():
        world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(held.path))
        made = world.double.build("localhost/hand:1", "one", "two")
        service = await world.start("serve")
        await eventually(lambda: listens(api))
        await world.settled()
        registry = (await world.status())["registry"]
        path = f"/v4.6.0/libpod/images/localhost%2Fhand:1/push?destination={registry}/by/hand:1&quiet=false"
        reader, writer = await asyncio.open_unix_connection(api)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
        await held.reached()
        service.send_signal(signal.SIGTERM)
        await eventually(lambda: not listens(api))
        held.open()
        content = await asyncio.wait_for(reader.read(), DEADLINE)
        writer.close()
        _, errors = await asyncio.wait_for(service.communicate(), DEADLINE)
    assert service.returncode == 0, errors
    assert json.loads(content.splitlines()[-4]) == {"manifestdigest": made.digest}
    assert world.shown() == {"by/hand:1": made.id}
