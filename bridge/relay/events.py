"""Podman's events with the publications among them, as events that podman's own clients can read.

`podman --remote events` 4.3.1 crashes on an action that it does not know, so a publication is a `push`, with the
attributes that every event of podman has.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.changes import Action, Change, Changes
from bridge.errors import InvalidError
from bridge.relay.bodies import Body, Endless, Sized
from bridge.relay.exchange import Records, take
from bridge.relay.heads import Answer
from bridge.relay.passage import Passage, as_it_is
from bridge.untrusted_json import decode

_WAITING = 1000
"""Publications that wait for a client which reads no more, until it is given up."""

Event = Mapping[str, Any]


def event_of(change: Change, registry: str) -> Event | None:
    """Return a publication as podman tells a push to `registry`, `HOST:PORT`; None for any other change."""
    if change.action is not Action.PUBLISHED or change.publication is None:
        return None
    publication, now = change.publication, time.time_ns()
    image = publication.source.image_id
    attributes = {
        "containerExitCode": "0",
        "image": "",
        "name": f"{registry}/{change.reference}",
        "podId": "",
        "podbridge.reference": str(change.reference),
        "podbridge.digest": str(publication.descriptor.digest),
        "podbridge.fidelity": str(publication.fidelity),
        "podbridge.name": publication.name,
    }
    return {
        "status": "push",
        "id": image,
        "Type": "image",
        "Action": "push",
        "Actor": {"ID": image, "Attributes": attributes},
        "scope": "local",
        "time": now // 10**9,
        "timeNano": now,
    }


def fits(event: Event, filters: Mapping[str, list[str]]) -> bool:
    """Say whether podman would show an event of an image: of each filter one value must fit."""
    return all(
        not values or any(_fits_one(event, key.lower(), value) for value in values) for key, values in filters.items()
    )


def _fits_one(event: Event, key: str, value: str) -> bool:
    attributes = event["Actor"]["Attributes"]
    match key:
        case "type":
            return value == "image"
        case "event" | "status":
            return value == "push"
        case "image":
            return bool(value) and (value == attributes["name"] or event["id"].startswith(value))
        case "label":
            name, equals, wanted = value.partition("=")
            return attributes.get(name) == wanted if equals else name in attributes
        case _:  # container, pod, volume: of something else
            return False


def read_filters(text: str | None) -> Mapping[str, list[str]] | None:
    """Read the query's filters, in either form that clients send; None where podman will refuse them."""
    try:
        read = decode((text or "{}").encode(errors="replace"), "filters", dict[str, list[str] | dict[str, bool]])
    except InvalidError:
        return None
    return {
        key: [value for value, wanted in values.items() if wanted] if isinstance(values, dict) else values
        for key, values in read.items()
    }


class Merged:
    """Delivers podman's stream of events with the publications that happen meanwhile."""

    def __init__(self, changes: Changes, registry: str, filters: Mapping[str, list[str]]) -> None:
        self._changes = changes
        self._registry = registry
        self._filters = filters

    async def __call__(self, passage: Passage, answer: Answer) -> None:
        """Deliver the stream until podman ends it; an error of podman's is delivered as it is."""
        body = answer.body(passage.method)
        if answer.status != 200 or isinstance(body, Sized):
            await as_it_is(passage, answer)
            return
        waiting: asyncio.Queue[Event] = asyncio.Queue(_WAITING)
        stream = _Stream(Records(passage.client, chunked=not isinstance(body, Endless)))
        await passage.client.write(answer.raw)
        with self._changes.heard_by(self._listener(waiting, asyncio.current_task())):
            ours = asyncio.create_task(stream.tell(waiting))
            try:
                await stream.copy(passage, body)
            finally:
                ours.cancel()
                await asyncio.gather(ours, return_exceptions=True)
        await stream.records.end()

    def _listener(self, waiting: asyncio.Queue[Event], task: asyncio.Task[Any] | None) -> Callable[[Change], None]:
        def hear(change: Change) -> None:
            event = event_of(change, self._registry)
            if event is None or not fits(event, self._filters):
                return
            try:
                waiting.put_nowait(event)
            except asyncio.QueueFull:
                if task is not None:
                    task.cancel("a client reads no events")

        return hear


class _Stream:
    """Two sources of whole lines, one client."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._turn = asyncio.Lock()

    async def tell(self, waiting: asyncio.Queue[Event]) -> None:
        """Send events as they come, for ever; a client that is gone is noticed by whoever watches it."""
        with contextlib.suppress(OSError):
            while True:
                event = await waiting.get()
                async with self._turn:
                    await self.records.write(event)

    async def copy(self, passage: Passage, body: Body) -> None:
        """Send podman's lines until its stream ends."""
        begun = b""
        while not body.done:
            try:
                passed = await take(passage.podman, body)
            except ConnectionAbortedError:
                if isinstance(body, Endless):
                    break
                raise
            lines, line_end, rest = (begun + body.content(passed)).rpartition(b"\n")
            begun = rest
            if line_end:
                await self._pass_on(lines + line_end)
        if begun:
            await self._pass_on(begun)

    async def _pass_on(self, content: bytes) -> None:
        for line in content.splitlines(keepends=True):
            async with self._turn:
                await self.records.pass_on(line)
