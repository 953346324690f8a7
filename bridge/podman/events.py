"""Podman's events, as reasons to look. No field of an event decides more than "look" or "ignore"."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from bridge.conditions import Conditions, Kind
from bridge.errors import PodmanError
from bridge.podman.client import Podman

_SILENT = frozenset({"save", "push", "mount", "unmount"})
"""Image events that change nothing; podbridge's own exports emit `save`."""

CONNECTED = "connected"
"""The reason to look that every new stream begins with."""

FIRST_DELAY = 0.1
MAX_DELAY = 30.0
"""Seconds between two attempts to open the stream: doubled from the first to the last."""


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
                yield f"{event.get('Type')} {event.get('Action')}"


async def for_ever(podman: Podman, conditions: Conditions) -> AsyncGenerator[str]:
    """Yield reasons to look, over every end and failure of a stream, with backoff between streams."""
    delay = FIRST_DELAY
    while True:
        try:
            async with contextlib.aclosing(one_stream(podman)) as reasons:
                async for reason in reasons:
                    delay = FIRST_DELAY
                    conditions.confirm(Kind.EVENTS_STREAMING)
                    yield reason
            conditions.deny(Kind.EVENTS_STREAMING, "Ended", "podman ended its events stream")
        except PodmanError as error:
            conditions.deny(Kind.EVENTS_STREAMING, type(error).__name__.removesuffix("Error"), str(error))
        await asyncio.sleep(delay)
        delay = min(delay * 2, MAX_DELAY)


def _matters(event: Mapping[str, Any]) -> bool:
    kind, action = event.get("Type"), event.get("Action")
    return (kind == "image" and action not in _SILENT) or (kind == "container" and action == "commit")
