"""A push whose export takes long: its stream goes on, so that nobody on the way takes it for dead."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.control import server as control
from bridge.control.api import Sources
from bridge.control.feed import Feed
from bridge.listening import unix_socket
from bridge.service.metrics import Metrics
from bridge.service.publishing import TELL_EVERY
from tests.double.gates import DEADLINE, Gate
from tests.faults.conftest import world
from tests.faults.world import World
from tests.relay.rig import REGISTRY, Rig, request_head

__all__ = ["world"]

SOON = 0.2
"""Seconds between two steps here."""
LINES = 4
"""Lines that say the same, to be seen while nothing happens."""
PUSHES = {
    "libpod": f"/v4.6.0/libpod/images/localhost%2Fhand:1/push?destination={REGISTRY}/by/hand:1&quiet=false",
    "compat": f"/v1.41/images/{REGISTRY}/by/hand/push?tag=1",
}


@pytest.fixture
def held(world: World) -> Iterator[Gate]:
    """The gate at which the export of every image stops."""
    world.settings |= {"publish": [{"match": "*", "skip": True}]}
    gate = world.double.gate("save")
    world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(gate.path))
    yield gate
    gate.open()


def test_a_line_comes_at_least_every_ten_seconds() -> None:
    assert TELL_EVERY < 10


@pytest.mark.parametrize("kind", PUSHES)
async def test_a_push_is_told_on_while_its_export_is_held(rig: Rig, world: World, held: Gate, kind: str) -> None:
    async with world.podman(), world.service() as service:
        world.double.build("localhost/hand:1", "one", "two")
        world.double.build(f"{REGISTRY}/by/hand:1", "one", "two")
        rig.publisher = dataclasses.replace(service, tell_every=SOON)
        async with rig.relaying(service.reconciler.parts.podman.socket):
            request = f"POST {PUSHES[kind]} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
            while_held, *_, last = await _held_and_ended(rig.api, request, held)
    assert set(while_held) == ({"stream"} if kind == "libpod" else {"status", "progressDetail", "id"})
    assert set(last) == ({"manifestdigest"} if kind == "libpod" else {"progressDetail", "aux"})


async def test_a_push_whose_image_is_still_looked_for_is_told_on(rig: Rig, world: World) -> None:
    gate = world.double.gate("listing")
    async with world.podman(), world.service() as service:
        world.double.build("localhost/hand:1")
        world.double.faults.add("listing", "hold", gate=str(gate.path))
        rig.publisher = dataclasses.replace(service, tell_every=SOON)
        async with rig.relaying(service.reconciler.parts.podman.socket):
            request = f"POST {PUSHES['libpod']} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
            while_held, *_, last = await _held_and_ended(rig.api, request, gate)
    assert while_held == {"stream": "Looking for localhost/hand:1 in podman's store\n"}
    assert set(last) == {"manifestdigest"}


async def test_a_publication_of_the_control_api_is_told_on_while_its_export_is_held(
    rig: Rig, world: World, held: Gate
) -> None:
    body = json.dumps({"image": "hand:1", "as": "by/hand:1"})
    head = "POST /bridge/v1/publications HTTP/1.1\r\nHost: d\r\nConnection: close\r\nAccept: application/x-ndjson\r\n"
    async with world.podman(), world.service() as service:
        world.double.build("localhost/hand:1", "one", "two")
        patient = dataclasses.replace(service, tell_every=SOON)
        with unix_socket(rig.api, "control") as listener:
            async with control.serving(Sources(patient, Feed(), Metrics(service)), listener):
                request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
                *_, last = await _held_and_ended(rig.api, request, held)
    assert last["publications"][0]["reference"] == "by/hand:1"  # type: ignore[index]


async def _held_and_ended(path: Path, request: str, held: Gate) -> list[dict[str, object]]:
    """Send a request, see lines while the export is held, let it go on; return the last of these and what follows."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request.encode())
    assert (await request_head(reader)).startswith(b"HTTP/1.1 200 ")
    await held.reached()
    last, same, pauses = await _record(reader), 0, []
    while same < LINES:
        begun = time.monotonic()
        record = await _record(reader)
        pauses.append(time.monotonic() - begun)
        same = same + 1 if record == last else 0
        last = record
    assert max(pauses) < 10, "the promise"
    assert min(pauses[-LINES:]) < 10 * SOON < TELL_EVERY, "as often as it was set to be, when the machine lets it"
    held.open()
    content = await reader.read()
    writer.close()
    return [last, *(json.loads(line) for line in content.splitlines() if line.startswith(b"{"))]


async def _record(reader: asyncio.StreamReader) -> dict[str, object]:
    """Read the next line that is a record, between the lines of the chunks."""
    async with asyncio.timeout(DEADLINE):
        while not (line := await reader.readline()).startswith(b"{"):
            assert line
    return dict(json.loads(line))
