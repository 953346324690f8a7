"""What systemd hears of a running service, and how its configuration is read again."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from bridge.config import Config
from bridge.errors import BridgeError
from bridge.fence import Fence
from bridge.service.settings import Settings
from bridge.systemd import Notifier

log = logging.getLogger(__name__)

_EVERY = 1.0
"""Seconds between two looks at what the status says."""

_EXTENSION = 30.0
"""Seconds that a start which is under way asks for at every look, so that only one which stalls fails."""


class Supervised(Protocol):
    """What is supervised."""

    def has_begun(self) -> bool:
        """Say whether the start is through."""

    def words(self) -> str:
        """Say in one line how it is."""


class Supervision:
    """Tells systemd how `supervised` is, and reads the configuration again, by `load`, when it is asked to."""

    def __init__(self, supervised: Supervised, settings: Settings, load: Callable[[], Config]) -> None:
        self._supervised = supervised
        self._settings = settings
        self._load = load
        self._asked = asyncio.Event()
        self._refused = ""
        self._ready = False
        self._fence = Fence()

    def reload(self) -> None:
        """Ask for the configuration to be read again. Safe at any time: a bad one is refused, and said."""
        self._asked.set()

    @contextlib.asynccontextmanager
    async def running(self, notifier: Notifier) -> AsyncIterator[None]:
        """Supervise while the block runs: READY, STATUS, watchdog, reload, and STOPPING at its end."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep_reading(notifier))]
            if notifier.told:
                tasks += [group.create_task(notifier.keep_alive()), group.create_task(self._report(notifier))]
            try:
                yield
            finally:
                notifier.stopping()
                for task in tasks:
                    task.cancel()

    async def _report(self, notifier: Notifier) -> None:
        told = ""
        while True:
            words = self._words()
            if not self._ready and self._has_begun():
                self._ready = True
                notifier.ready(words)
            elif words != told:
                notifier.status(words)
            if not self._ready:
                notifier.extend(_EXTENSION)
            told = words
            await asyncio.sleep(_EVERY if self._ready else _EVERY / 10)

    async def _keep_reading(self, notifier: Notifier) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self._ready:
                notifier.reloading()
            await self._change()
            if self._ready:
                notifier.ready(self._words())

    async def _change(self) -> None:
        try:
            with self._fence.around("a new configuration"):
                await self._settings.change(self._load())
        except (BridgeError, OSError) as error:
            self._refused = str(error)
            log.error("new configuration refused, the one before stays error=%r", self._refused)  # noqa: TRY400
            return
        self._refused = ""
        log.info("configuration read again")

    def _has_begun(self) -> bool:
        try:
            with self._fence.around("the start"):
                return self._supervised.has_begun()
        except BridgeError:
            return False  # told with its traceback

    def _words(self) -> str:
        try:
            with self._fence.around("the status line"):
                words = self._supervised.words()
        except BridgeError as error:
            words = str(error)
        return f"{words}; new configuration refused: {self._refused}" if self._refused else words
