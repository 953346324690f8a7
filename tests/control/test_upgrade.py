"""Requests behind one that asks for another protocol: the control socket and the probes go on (RFC 9110, 7.8)."""

import asyncio

import pytest

from tests.double.gates import DEADLINE
from tests.faults.world import World

UPGRADES = {
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    "tls": "Connection: Upgrade\r\nUpgrade: TLS/1.0",
    "several": "Connection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket",
}
PATHS = {"control": "/bridge/v1/status", "probes": "/healthz"}


@pytest.mark.parametrize("socket", PATHS)
@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("body", ["", "abc"], ids=["no body", "a body"])
async def test_what_is_in_the_buffer_behind_an_upgrade_is_answered(
    world: World, socket: str, upgrade: str, body: str
) -> None:
    world.settings["metrics"] = {"listen": "127.0.0.1:0"}
    asked = (
        f"GET {PATHS[socket]} HTTP/1.1\r\nHost: x\r\n{UPGRADES[upgrade]}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
        * 2
        + f"GET {PATHS[socket]} HTTP/1.1\r\nHost: x\r\n\r\n"
        + "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    async with world.podman(), world.service() as service:
        if socket == "control":
            reader, writer = await asyncio.open_unix_connection(world.control)
        else:
            host, _, port = service.facts.sockets["metrics"].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(asked.encode())
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        writer.close()
    assert (answer.count(b"HTTP/1.1 200 OK\r\n"), answer.count(b"HTTP/1.1 404 ")) == (3, 1)
