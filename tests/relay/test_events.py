"""Podman's stream of events with the publications in it."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from bridge.changes import Action, Change
from bridge.oci import OCI_MANIFEST, Descriptor, Digest, Reference
from bridge.plan import Fidelity, Image, Publication, Source
from bridge.relay.events import event_of, fits, read_filters
from tests.end_to_end.programs import ask as run_command
from tests.relay.rig import REGISTRY, Rig, request_head
from tests.relay.worlds import World, ask, environment, world

IMAGE = "ab" * 32
DIGEST = Digest.of(b"manifest")
PODMANS = b'{"Type":"image","Action":"tag","Actor":{"ID":"x","Attributes":{}}}\n'


def published(reference: str = "app:1", action: Action = Action.PUBLISHED) -> Change:
    """A change as the publisher tells it."""
    named = Reference.parse(reference)
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 10)
    source = Source(IMAGE, DIGEST)
    publication = Publication(named, descriptor, source, Fidelity.EXACT, f"localhost/{reference}", 10, time.time())
    return Change(action, named, publication, image=Image(IMAGE))


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ("", True),
        ("{}", True),
        ('{"type":["image"]}', True),
        ('{"type":{"image":true,"container":true}}', True),
        ('{"type":{"image":false,"container":true}}', False),
        ('{"TYPE":["container"]}', False),
        ('{"event":["push"],"type":["image"]}', True),
        ('{"status":["tag","push"]}', True),
        ('{"event":["tag"]}', False),
        (f'{{"image":["{REGISTRY}/app:1"]}}', True),
        (f'{{"image":["{IMAGE[:12]}"]}}', True),
        ('{"image":["other"]}', False),
        ('{"image":[]}', True),
        ('{"label":["podbridge.reference=app:1"]}', True),
        ('{"label":["podbridge.reference"]}', True),
        ('{"label":["stage=prod"]}', False),
        ('{"container":["x"]}', False),
    ],
)
def test_filters_hold_for_publications_too(filters: str, shown: bool) -> None:
    event, read = event_of(published(), REGISTRY), read_filters(filters or None)
    assert event is not None
    assert read is not None
    assert fits(event, read) is shown


def test_only_publications_are_told() -> None:
    for action in (Action.WITHDRAWN, Action.FAILED):
        assert event_of(published(action=action), REGISTRY) is None


@pytest.mark.parametrize("minor", [b"0", b"1"])
async def test_a_publication_never_cuts_one_of_podmans_lines(rig: Rig, minor: bytes) -> None:
    told, over = asyncio.Event(), asyncio.Event()
    chunk = b"%x\r\n%b\r\n"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        old = minor == b"0"
        writer.write(
            b"HTTP/1." + minor + b" 200 OK\r\n" + (b"" if old else b"Transfer-Encoding: chunked\r\n") + b"\r\n"
        )
        for part in (PODMANS[:10], PODMANS[10:] + PODMANS):
            writer.write(part if old else chunk % (len(part), part))
            await writer.drain()
            await told.wait()
        await over.wait()
        writer.write(b"" if old else b"0\r\n\r\n")

    async with rig.upstream(handle):
        reader, writer = await rig.connect()
        writer.write(b"GET /v1.41/events HTTP/1." + minor + b"\r\nHost: d\r\nConnection: close\r\n\r\n")
        await request_head(reader)
        await asyncio.sleep(0)
        rig.changes.tell(published("one:1"))
        rig.changes.tell(published("gone:1", Action.WITHDRAWN))
        content = await reader.readuntil(b"\n" if minor == b"0" else b"\n\r\n")
        told.set()
        over.set()
        content += await reader.read()
        writer.close()
    lines = [line for line in content.splitlines() if line.startswith(b"{")]
    assert [json.loads(line)["Action"] for line in lines] == ["push", "tag", "tag"]
    if minor == b"1":
        assert content.endswith(b"\r\n0\r\n\r\n")
        assert content.count(b"}\n\r\n") == len(lines)  # each in a chunk of its own


async def test_a_bad_filter_is_answered_by_podman(rig: Rig) -> None:
    refusal = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(refusal)

    async with rig.upstream(handle):
        assert await rig.say(b"GET /events?filters=%5B HTTP/1.1\r\nConnection: close\r\n\r\n", end=False) == refusal


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    """A world."""
    with world("read") as here:
        yield here


WINDOWS = (3, 30)
"""Seconds that a stream of events lasts: a busy machine may not build and publish in the first."""


def events_of_a_build(here: World, path: str, name: str, seconds: int) -> list[dict[str, Any]]:
    """Build an image while its events are followed, and return those that came until the stream ended by itself."""
    filters = quote('{"type":["image"],"event":["push","build"]}')
    query = f"stream=true&filters={filters}&until={time.time() + seconds:.0f}"
    command = ["curl", "--silent", "--no-buffer", "--unix-socket", str(here.bridge), f"http://d{path}?{query}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stream:
        here.store.build(name)
        assert stream.stdout is not None
        events = [json.loads(line) for line in stream.stdout]
    image = here.store.image_id(name)
    return [event for event in events if image in (event["Actor"]["ID"], event["Actor"]["Attributes"]["name"])]


@pytest.mark.parametrize("path", ["/v1.41/events", "/v4.0.0/libpod/events"])
def test_a_build_is_followed_by_its_publication_in_podmans_own_words(here: World, path: str) -> None:
    since = time.time_ns()
    for seconds in WINDOWS:
        name = f"localhost/event{len(path)}in{seconds}:1"
        seen = events_of_a_build(here, path, name, seconds)
        if len(seen) > 1:
            break
    image = here.store.image_id(name)
    assert sorted(event["Action"] for event in seen) == ["build", "push"]  # podman's own event may be the later one
    (push,) = [event for event in seen if event["Action"] == "push"]
    assert set(push) == {"status", "id", "Type", "Action", "Actor", "scope", "time", "timeNano"}
    reference = name.removeprefix("localhost/")
    attributes = push["Actor"]["Attributes"]
    assert attributes | {"podbridge.fidelity": "exact"} == attributes
    assert attributes["name"] == f"{here.own}/{reference}"
    assert {"containerExitCode", "image", "podId", "name"} <= set(attributes)
    assert attributes["podbridge.digest"] == here.store.digest(name)
    assert push["Actor"]["ID"] == push["id"] == image
    assert push["timeNano"] > since


def test_podmans_own_client_reads_a_publication(here: World) -> None:
    """podman 4.3.1 crashes on an action that it does not know."""
    podman = ["podman", "--url", f"unix://{here.bridge}"]
    for seconds in WINDOWS:
        until = f"{time.time() + seconds:.0f}"
        command = [*podman, "events", "--format", "{{.Status}} {{.Name}}", "--until", until]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(here.bridge)) as stream:
            here.store.build(f"localhost/seen{seconds}:1")
            assert stream.stdout is not None
            told = stream.stdout.read().splitlines()
        assert stream.returncode == 0
        if f"push {here.own}/seen{seconds}:1" in told:
            return
    pytest.fail(f"no push in {told}")


def test_what_a_profile_refuses_names_the_one_that_allows_it(here: World) -> None:
    here.store.build("localhost/kept:1")
    for request, profile in {
        f"POST /v4.0.0/libpod/images/localhost/kept:1/push?destination={here.own}/kept:2": "publish",
        "POST /v4.0.0/libpod/images/localhost/kept:1/push?destination=quay.io/org/kept:2": "full",
        f"POST /v1.41/images/{here.own}/kept/push?tag=1": "publish",
        "POST /v4.0.0/libpod/images/localhost/kept:1/tag?repo=x": "publish",
        "DELETE /v4.0.0/libpod/images/localhost/kept:1": "full",
        "POST /v1.41/containers/create": "full",
    }.items():
        answer = ask(here.bridge, request)
        assert (answer.status, answer.kind) == (403, "application/json")
        (told,) = answer.json
        assert set(told) == {"cause", "message", "response"}
        assert f"`api: {{profile: {profile}}}`" in str(told["message"])
    assert here.store.podman("image", "exists", "localhost/kept:1") == ""
    done = run_command("podman", "--url", f"unix://{here.bridge}", "rmi", "localhost/kept:1")
    assert done.returncode != 0
    assert "profile: full" in done.stderr
