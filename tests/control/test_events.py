"""Following the changes: as Server-Sent Events or lines, from where one left off, without delaying anybody."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from bridge.changes import Change
from bridge.control import streams
from bridge.control.feed import BEHIND, KEPT, Feed
from bridge.control.schema import EventView
from bridge.control.streams import KEEP_ALIVE
from bridge.errors import ForgottenError
from tests.control.asking import LINES, ask, asking
from tests.double.gates import DEADLINE, eventually
from tests.faults.world import World


async def next_event(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the fields of the next Server-Sent Event."""
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            return fields
    raise AssertionError(fields)


async def next_line(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the next document of a stream of lines."""
    async for line in response.content:
        if line.strip():
            return dict(json.loads(line))
    raise AssertionError


async def test_each_change_is_an_event(world: World) -> None:
    async with world.podman(), world.service(), asking(world, "GET", "events") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        first = world.double.build("localhost/app:1", "first")
        event = await next_event(response)
        told = json.loads(event["data"])
        assert (event["event"], event["id"]) == ("published", told["id"])
        assert (told["action"], told["reference"], told["name"]) == ("published", "app:1", "localhost/app:1")
        assert (told["digest"], told["image"], "previous" in told) == (first.digest, first.id, False)
        assert told["read"] == len(first.layers[0])
        second = world.double.build("localhost/app:1", "second")
        told = json.loads((await next_event(response))["data"])
        assert (told["digest"], told["previous"]) == (second.digest, first.digest)
        world.double.faults.add("save", "fail", words="layer not known")
        world.double.build("localhost/bad:1", "bad")
        told = json.loads((await next_event(response))["data"])
        assert (told["action"], told["reference"], told["attempts"]) == ("failed", "bad:1", 1)
        assert "layer not known" in told["message"]
        assert json.loads((await next_event(response))["data"])["reference"] == "bad:1"
        world.double.untag("localhost/app:1")
        told = json.loads((await next_event(response))["data"])
        assert (told["action"], told["reference"], told["digest"]) == ("withdrawn", "app:1", second.digest)


async def test_who_comes_back_misses_nothing(world: World) -> None:
    async with world.podman(), world.service():
        async with asking(world, "GET", "events", headers=LINES) as response:
            assert response.headers["Content-Type"] == "application/x-ndjson"
            world.double.build("localhost/app:1")
            first = await next_line(response)
        for number in (2, 3):
            made = world.double.build(f"localhost/app:{number}", str(number))
            await eventually(lambda: made.id in world.shown().values())  # noqa: B023 - it is awaited here
        headers = {"Last-Event-ID": first["id"]}
        async with asking(world, "GET", "events", headers={**LINES, **headers}) as response:
            assert [(await next_line(response))["reference"] for _ in range(2)] == ["app:2", "app:3"]
        async with asking(world, "GET", "events", headers=headers) as response:
            assert json.loads((await next_event(response))["data"])["reference"] == "app:2"


@pytest.mark.parametrize("last", ["0-1", "x", "{run}-99", "{run}-", "{run}--1", f"{{run}}-{'9' * 5000}"])
async def test_what_is_not_known_any_more_is_answered_with_410(world: World, last: str) -> None:
    async with world.podman(), world.service():
        async with asking(world, "GET", "events", headers=LINES) as response:
            world.double.build("localhost/app:1")
            run = (await next_line(response))["id"].partition("-")[0]
        answer = await ask(world, "GET", "events", headers={"Last-Event-ID": last.format(run=run)})
        assert (answer.status, answer.json["reason"]) == (410, "Forgotten")


async def test_silence_is_filled_so_that_a_dead_connection_is_noticed(world: World) -> None:
    async with (
        world.podman(),
        world.service(),
        asking(world, "GET", "events") as sent,
        asking(world, "GET", "events", headers=LINES) as lines,
    ):
        begun = time.monotonic()
        assert [await sent.content.readline() for _ in range(3)] == [b": nothing yet\n", b"\n", b": nothing new\n"]
        assert [await lines.content.readline() for _ in range(2)] == [b"\n", b"\n"]
        assert time.monotonic() - begun < KEEP_ALIVE + DEADLINE


@pytest.mark.parametrize("headers", [{}, LINES], ids=["events", "lines"])
async def test_a_client_has_the_head_before_anything_happens(
    world: World, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE", 10 * DEADLINE)
    async with (
        world.podman(),
        world.service(),
        asyncio.timeout(DEADLINE),
        asking(world, "GET", "events", headers=headers) as response,
    ):
        assert response.status == 200


async def test_a_stream_ends_with_the_service(world: World) -> None:
    async with world.podman():
        async with world.service():
            session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(world.control)))
            response = await session.get("http://podbridge/bridge/v1/events")
        async with asyncio.timeout(DEADLINE):
            assert await response.content.read() == b": nothing yet\n\n"
        await session.close()


def event(number: int) -> EventView:
    return EventView("", float(number), "published", f"app:{number}")


async def test_a_slow_reader_is_dropped_and_no_other_is_delayed() -> None:
    feed, dropped = Feed(), asyncio.Event()
    with feed.read("", dropped.set) as slow, feed.read("", dropped.set) as quick:
        seen: list[EventView] = []
        for number in range(BEHIND + 1):
            feed.tell(event(number))
            seen += await quick.next(1) or []
        assert dropped.is_set()
        assert await slow.next(1) is None
        assert len(seen) == BEHIND + 1


async def test_a_slow_reader_of_the_socket_is_cut_off(world: World) -> None:
    async with world.podman(), world.service() as service:
        tell = service.reconciler.parts.changes.tell
        reader, writer = await asyncio.open_unix_connection(str(world.control), limit=1024)
        writer.write(b"GET /bridge/v1/events HTTP/1.1\r\nHost: podbridge\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # and nothing more
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        changes: list[Change] = []
        with service.reconciler.parts.changes.heard_by(changes.append):
            world.double.build("localhost/app:1", "next")
            await eventually(lambda: changes)
        for _ in range(2 * BEHIND):
            tell(changes[0])
            if not _ % 100:
                await asyncio.sleep(0)
        assert (await ask(world, "GET", "status")).status == 200
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await _read_on(reader)
        writer.close()


async def _read_on(reader: asyncio.StreamReader) -> None:
    while True:
        await reader.readexactly(10_000)


def test_the_feed_forgets_the_oldest() -> None:
    feed = Feed()
    for number in range(KEPT + 10):
        feed.tell(event(number))
    with feed.read("", lambda: None):
        pass
    run = feed._run
    with pytest.raises(ForgottenError), feed.read(f"{run}-9", lambda: None):
        pass
    with feed.read(f"{run}-10", lambda: None) as reader:
        assert len(reader._waiting) == KEPT
