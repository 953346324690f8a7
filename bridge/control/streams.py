"""Answers that go on: the progress of a publication, and the changes as they happen."""

import contextlib
from collections.abc import AsyncGenerator, Callable

import msgspec
from aiohttp import web

from bridge.control.feed import Feed
from bridge.control.questions import LINES, wants_lines
from bridge.control.schema import EventView
from bridge.errors import BridgeError
from bridge.oci import Reference
from bridge.progress import Event, Shown, failure, records

KEEP_ALIVE = 10.0
"""Seconds of silence after which an event stream says that it is still there."""


async def progress(
    request: web.Request, steps: AsyncGenerator[Event], conclude: Callable[[list[Reference]], object]
) -> web.StreamResponse:
    """Answer with podman's push stream, one record a line, and last what `conclude` makes of all that is shown.

    What fails before anything was told is raised, and answered as every other error; what fails later is
    the last record.
    """
    shown: list[Reference] = []
    async with contextlib.aclosing(steps):
        step = await anext(steps)
        response = web.StreamResponse(headers={"Content-Type": LINES, "Cache-Control": "no-store"})
        await response.prepare(request)
        try:
            while True:
                for record in records(step):
                    await response.write(_line(record))
                if isinstance(step, Shown):
                    shown.append(step.reference)
                step = await anext(steps)
        except StopAsyncIteration:
            await response.write(_line(conclude(shown)))
        except BridgeError as error:
            await response.write(_line(failure(str(error))))
        return response


async def changes(request: web.Request, feed: Feed) -> web.StreamResponse:
    """Answer with the changes as they happen, until the client leaves: Server-Sent Events, or lines of JSON."""
    lines = wants_lines(request)
    kind = LINES if lines else "text/event-stream"
    response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-store"})

    def drop() -> None:
        if request.transport is not None:
            request.transport.abort()

    with feed.read(request.headers.get("Last-Event-ID", ""), drop) as reader:
        await response.prepare(request)
        await response.write(b"\n" if lines else b": nothing yet\n\n")  # aiohttp keeps the head until the first bytes
        while (events := await reader.next(KEEP_ALIVE)) is not None:
            written = b"".join(_line(event) if lines else _server_sent(event) for event in events)
            await response.write(written or (b"\n" if lines else b": nothing new\n\n"))
    return response


def _line(value: object) -> bytes:
    """Return a document as one line."""
    return msgspec.json.encode(value) + b"\n"


def _server_sent(event: EventView) -> bytes:
    return f"id: {event.id}\nevent: {event.action}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"
