"""Podman's events, as reasons to look. No field of an event decides more than "look" or "ignore"."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from bridge.conditions import Conditions, Kind
from bridge.errors import PodmanError, UnreachableError
from bridge.podman.client import Podman
from bridge.untrusted_text import one_line

_SILENT = frozenset({"save", "push", "mount", "unmount"})
"""Image events that change nothing; podbridge's own exports emit `save`."""

CONNECTED = "connected"
"""The reason to look that every new stream begins with."""
LOST = "events lost"
"""The reason to look that every lost stream ends with: it tells whether podman is away."""

FIRST_DELAY = 0.1
MAX_DELAY = 30.0
"""Seconds between two attempts to open the stream: doubled from the first to the last."""

_PROBATION = 0.5
"""Seconds after which a stream that follows a lost one counts as open: without an events logger podman
opens each with HTTP 200 and ends it at once."""


async def one_stream(podman: Podman) -> AsyncGenerator[str]:
    """Yield a reason to look, once when the stream is open and for every event that may matter.

    Ends when podman ends the stream; raises PodmanError when it cannot be opened or is refused. The
    stream is opened without `since=`, which loses events: the look at its start makes up for those
    that came before.
    """
    async with contextlib.aclosing(podman.events()) as events:
        async for event in events:
            if not event:
                yield CONNECTED
            elif _matters(event):
                yield one_line(f"{event.get('Type')} {event.get('Action')}", 100)


async def for_ever(podman: Podman, conditions: Conditions) -> AsyncGenerator[str]:
    """Yield reasons to look, over every end and failure of a stream, with backoff between streams."""
    loop = asyncio.get_running_loop()
    delay = FIRST_DELAY
    while True:
        opened, confirming = math.inf, None
        try:
            async with contextlib.aclosing(one_stream(podman)) as reasons:
                async for reason in reasons:
                    if reason == CONNECTED:
                        probation = _PROBATION if conditions[Kind.EVENTS_STREAMING].status is False else 0
                        confirming = loop.call_later(probation, conditions.confirm, Kind.EVENTS_STREAMING)
                        opened = loop.time()
                    yield reason
            lasted = loop.time() - opened > _PROBATION
            conditions.deny(Kind.EVENTS_STREAMING, "Ended", "podman ended its events stream", follows=lasted)
        except UnreachableError as error:
            conditions.deny(Kind.EVENTS_STREAMING, "Unreachable", str(error), follows=True)
        except PodmanError as error:
            conditions.deny(Kind.EVENTS_STREAMING, type(error).__name__.removesuffix("Error"), str(error))
        finally:
            if confirming is not None:
                confirming.cancel()
        if loop.time() - opened > _PROBATION:
            delay = FIRST_DELAY
        yield LOST
        await asyncio.sleep(delay)
        delay = min(delay * 2, MAX_DELAY)


def _matters(event: Mapping[str, Any]) -> bool:
    kind, action = event.get("Type"), event.get("Action")
    return (kind == "image" and str(action) not in _SILENT) or (kind == "container" and action == "commit")
