"""The doorbell: inotify on the directory in which podman replaces `images.json`.

It rings for every change of the image set by podman, buildah or skopeo, also for those that emit no
event, and never for a read. The file itself is private to podman and is never opened.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from asyncinotify import Inotify, Mask

from bridge.conditions import Conditions, Kind
from bridge.errors import PodmanError, UnreachableError
from bridge.podman.client import Podman

ARMED = "doorbell armed"
"""The reason to look that every new watch begins with."""
REARM = 10.0
"""Seconds between two attempts to arm it, where the directory is missing or was removed."""
AWAY = 1.0
"""The same where podman does not answer: asking is cheap, and until it is armed buildah goes unheard."""

_RINGS = Mask.MOVED_TO | Mask.CREATE | Mask.CLOSE_WRITE
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.UNMOUNT


async def one_watch(directory: Path) -> AsyncGenerator[str]:
    """Yield a reason to look, once when armed and at every ring; end when the directory goes.

    Raises OSError where the directory cannot be watched.
    """
    with Inotify() as inotify:
        inotify.add_watch(directory, _RINGS | Mask.DELETE_SELF | Mask.MOVE_SELF)
        yield ARMED
        async for event in inotify:
            if event.mask & _GONE:
                return
            if event.mask & Mask.Q_OVERFLOW or (event.name is not None and event.name.name == "images.json"):
                yield "doorbell"


async def for_ever(podman: Podman, conditions: Conditions) -> AsyncGenerator[str]:
    """Yield reasons to look, and arm the doorbell again wherever it was lost."""
    while True:
        delay = REARM
        try:
            directory = (await podman.store()).images_directory
            async with contextlib.aclosing(one_watch(directory)) as reasons:
                async for reason in reasons:
                    conditions.confirm(Kind.DOORBELL_ARMED, message=str(directory))
                    yield reason
            conditions.deny(Kind.DOORBELL_ARMED, "Gone", f"{directory} was removed")
        except UnreachableError as error:
            conditions.deny(Kind.DOORBELL_ARMED, "Unreachable", str(error), follows=True)
            delay = AWAY
        except PodmanError as error:
            conditions.deny(Kind.DOORBELL_ARMED, "StoreUnknown", str(error))
        except OSError as error:
            conditions.deny(Kind.DOORBELL_ARMED, "NotWatchable", f"{error.strerror}: {directory}")
        await asyncio.sleep(delay)
