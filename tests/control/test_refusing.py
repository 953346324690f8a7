"""What is no HTTP is answered in the API's own words, as every other error is."""

import asyncio
import json
import logging
from typing import Any

import pytest

from bridge.control import questions
from tests.double.gates import DEADLINE
from tests.faults.world import World

HEAD = b"GET /bridge/v1/status HTTP/1.1\r\nHost: d\r\n"
PROBE = b"GET /metrics HTTP/1.1\r\nHost: d\r\n"
MALFORMED = {
    "line": (b"nonsense\r\n\r\n", 400),
    "version": (b"GET /bridge/v1/status HTTP/9.9\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "length": (HEAD + b"Content-Length: x\r\n\r\n", 400),
    "field": (HEAD + b"no colon\r\n\r\n", 400),
    "long line": (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: d\r\n\r\n", 431),
    "long field": (HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "expectation": (HEAD + b"Expect: wonders\r\nConnection: close\r\n\r\n", 417),
    "many fields": (HEAD + b"X: a\r\n" * 200 + b"\r\n", 431),
}


@pytest.mark.parametrize(("raw", "status"), MALFORMED.values(), ids=MALFORMED)
async def test_what_is_not_http_is_answered_with_a_problem_and_closed(
    world: World, raw: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.settings["metrics"] = {"listen": "127.0.0.1:0"}
    async with world.podman(), world.service() as service:
        caplog.clear()
        host, _, port = service.facts.sockets["metrics"].rpartition(":")
        over_unix = await say(await asyncio.open_unix_connection(str(world.control)), raw)
        over_tcp = await say(await asyncio.open_connection(host, int(port)), raw.replace(HEAD, PROBE))
    for told in (over_unix, over_tcp):
        assert set(told) == {"cause", "message", "response", "reason"}
        assert told["response"] == status
        assert told["message"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_of_idle_connections_to_the_probes_the_oldest_has_to_go(world: World) -> None:
    """All who reach the port share few places, and what is idle keeps none from a client that asks."""
    world.settings["metrics"] = {"listen": "127.0.0.1:0"}
    async with world.podman(), world.service() as service:
        host, _, port = service.facts.sockets["metrics"].rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(64)]
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        told = await say(idle[0], b"")
        assert (told["response"], told["reason"]) == (503, "ServiceUnavailable")
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize(
    ("field", "body"),
    [(b"Content-Encoding: gzip\r\nContent-Length: 7", b"garbage"), (b"Transfer-Encoding: chunked", b"no length\r\n")],
    ids=["coding", "chunk"],
)
async def test_a_body_that_cannot_be_read_is_told(
    world: World, field: bytes, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /bridge/v1/publications HTTP/1.1\r\nHost: d\r\nConnection: close\r\n%b\r\n\r\n" % field
    async with world.podman(), world.service():
        caplog.clear()
        told = await say(await asyncio.open_unix_connection(str(world.control)), head + body)
    assert told["response"] == 400
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("then", [b"", b"no length\r\n"], ids=["never", "broken"])
async def test_a_body_that_does_not_come_is_waited_for_ten_seconds(
    world: World, then: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert questions.BODY_WITHIN == 10
    monkeypatch.setattr(questions, "BODY_WITHIN", 0.5)
    head = b"POST /bridge/v1/publications HTTP/1.1\r\nHost: d\r\nConnection: close\r\nExpect: 100-continue\r\n"
    async with world.podman(), world.service():
        reader, writer = await asyncio.open_unix_connection(str(world.control))
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        told = await say((reader, writer), then)
    assert (told["response"], told["message"]) == (400, "body: it did not come whole within 0.5 seconds")


async def say(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], raw: bytes) -> dict[str, Any]:
    """Send bytes, and return the document of the one answer, behind which the connection ends."""
    reader, writer = connection
    writer.write(raw)
    async with asyncio.timeout(DEADLINE):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    lines = head.split(b"\r\n")
    assert b"Content-Type: application/json" in lines
    told = json.loads(body)
    assert lines[0].split()[1] == str(told["response"]).encode()
    return dict(told)
