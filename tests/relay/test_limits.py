"""What a client of the api socket may cost: bytes, seconds, connections; and that another one is answered meanwhile."""

import asyncio
import contextlib
import json

import pytest

from bridge.errors import BusyError
from bridge.limits import Limits
from bridge.places import Places
from bridge.relay import exchange, passage
from bridge.relay.heads import LONGEST
from tests.double.gates import DEADLINE, eventually
from tests.relay.rig import Rig, request_head

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
ENDLESS = b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n"
OTHER = 4242
"""A user who is neither root nor the one of these tests."""


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request at once, and events never."""
    while True:
        try:
            head = await request_head(reader)
        except asyncio.IncompleteReadError:
            return
        if head.startswith(b"GET /events"):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await reader.read()
            return
        writer.write(OK)


def problem(answer: bytes) -> dict[str, object]:
    """Return the document of an error, which has to be whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    told: dict[str, object] = json.loads(body)
    assert str(told["response"]).encode() == head.split()[1]
    return told


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Read up to the end."""
    async with asyncio.timeout(DEADLINE):
        return await reader.read()


@pytest.mark.parametrize("begun", [b"G", b"GET /_ping HTTP/1.1\r\nX: ", PING + b"GET"])
async def test_a_head_that_is_not_complete_in_time_is_refused(rig: Rig, begun: bytes) -> None:
    rig.limits = Limits(connections=8, head_seconds=0.3)
    async with rig.upstream(answering):
        answer = await rig.say(begun, end=False)
    assert problem(answer.removeprefix(OK))["response"] == 408


async def test_a_connection_without_a_request_is_closed(rig: Rig) -> None:
    rig.limits = Limits(connections=8, idle_seconds=0.3)
    async with rig.upstream(answering):
        assert await rig.say(b"", end=False) == b""
        assert await rig.say(PING, end=False) == OK


async def test_incomplete_heads_are_counted_together_and_others_are_served(rig: Rig) -> None:
    rig.limits = Limits(connections=64, held=2 * LONGEST)
    async with rig.upstream(answering):
        begun = b"GET /_ping HTTP/1.1\r\nX: " + b"x" * (LONGEST - 100)
        told = [asyncio.create_task(rig.say(begun, end=False)) for _ in range(6)]
        await eventually(lambda: sum(task.done() for task in told) >= 4)
        assert await rig.say(PING) == OK
        refused = [problem(task.result()) for task in told if task.done()]
        assert {one["response"] for one in refused} == {503}
        for task in told:
            task.cancel()
        await asyncio.gather(*told, return_exceptions=True)
        assert await rig.say(begun) == b""  # what the others held is free again: it is not refused, but cut off


async def test_a_head_of_very_many_fields_is_refused(rig: Rig) -> None:
    async with rig.upstream(answering):
        answer = await rig.say(b"GET /_ping HTTP/1.1\r\n" + b"a:\r\n" * 200_000 + b"\r\n")
        assert problem(answer)["response"] == 431


async def test_a_body_that_stops_coming_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (passage._SILENCE, exchange._BODY_WITHIN) == (120, 10)
    monkeypatch.setattr(passage, "_SILENCE", 0.3)
    monkeypatch.setattr(exchange, "_BODY_WITHIN", 0.3)

    async def reading(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    for path, length in (("/build", b"Transfer-Encoding: chunked"), ("/auth", b"Content-Length: 9")):
        async with rig.upstream(reading):
            answer = await rig.say(f"POST {path} HTTP/1.1\r\n".encode() + length + b"\r\n\r\n", end=False)
        rig.podman.unlink()
        assert problem(answer)["response"] == 408


async def test_streams_are_fewer_than_connections_so_that_short_requests_are_answered(rig: Rig) -> None:
    rig.limits = Limits(connections=8)
    async with rig.upstream(answering):
        streams = [await rig.connect() for _ in range(4)]
        for reader, writer in streams:
            writer.write(ENDLESS)
            await request_head(reader)
        answer = await rig.say(ENDLESS + PING)
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1" in head
        assert rest.endswith(OK)  # the connection goes on
        for _, writer in streams:
            writer.close()

        async def is_served() -> bool:
            reader, writer = await rig.connect()
            writer.write(ENDLESS)
            told = await request_head(reader)
            writer.close()
            return told.startswith(b"HTTP/1.1 200 ")

        await eventually(is_served)


async def test_of_idle_connections_the_one_whose_last_request_is_longest_ago_has_to_go(rig: Rig) -> None:
    rig.limits = Limits(connections=4)
    async with rig.upstream(answering):
        clients = []
        for _ in range(4):
            reader, writer = await rig.connect()
            writer.write(PING)
            await reader.readexactly(len(OK))
            clients.append((reader, writer))
        clients[0][1].write(PING)
        await clients[0][0].readexactly(len(OK))
        assert await rig.say(PING) == OK
        assert problem(await all_of(clients[1][0]))["response"] == 503
        clients[0][1].write(PING)
        assert await clients[0][0].readexactly(len(OK)) == OK
        for _, writer in clients:
            writer.close()


async def test_podman_that_cannot_be_asked_for_want_of_descriptors_is_away(rig: Rig) -> None:
    async with rig.relaying(rig.directory / "none"):
        answer = await rig.say(PING)
    assert problem(answer)["response"] == 503
    assert b"Retry-After: 1\r\n" in answer


def test_a_user_may_have_as_many_as_are_free_and_root_the_rest() -> None:
    places = Places(16, "streams")
    with contextlib.ExitStack() as stack:

        def fill(user: int | None) -> int:
            count = 0
            while places.has_room(user):
                stack.enter_context(places.taken(user))
                count += 1
            return count

        assert [fill(user) for user in (OTHER, OTHER + 1, OTHER + 2, OTHER, 0)] == [6, 3, 2, 0, 5]
        with pytest.raises(BusyError, match=r"too many streams are open \(6 of yours\)"), places.taken(OTHER):
            pass
    assert places.has_room(OTHER)
