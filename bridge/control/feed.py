"""The recent changes, and whoever reads on from there. A reader that is slow is dropped; it delays nobody."""

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator

from bridge.control.schema import EventView
from bridge.errors import ForgottenError

KEPT = 1000
"""Changes that are remembered for readers that come back."""
BEHIND = 2 * KEPT
"""Changes that a reader may be behind before it is dropped."""


class Reader:
    """One who reads on."""

    def __init__(self, drop: Callable[[], None]) -> None:
        self._drop = drop
        self._waiting: deque[EventView] = deque()
        self._more = asyncio.Event()
        self._open = True

    def tell(self, event: EventView) -> None:
        """Have the reader get one more change."""
        if len(self._waiting) >= BEHIND:
            self.end()
            self._drop()
        elif self._open:
            self._waiting.append(event)
            self._more.set()

    def end(self) -> None:
        """Have nothing follow."""
        self._open = False
        self._waiting.clear()
        self._more.set()

    async def next(self, patience: float) -> list[EventView] | None:
        """Return what has happened; nothing after `patience` seconds without a change, None at the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._more.wait()
        self._more.clear()
        found = list(self._waiting)
        self._waiting.clear()
        return found if self._open or found else None


class Feed:
    """Numbers the changes of this run of the service, and keeps the last `KEPT`."""

    def __init__(self) -> None:
        self._run = f"{time.time_ns() // 1_000_000:x}"
        self._count = 0
        self._recent: deque[EventView] = deque(maxlen=KEPT)
        self._readers: set[Reader] = set()

    def tell(self, event: EventView) -> None:
        """Give the change its ID, and tell it to every reader."""
        self._count += 1
        event.id = f"{self._run}-{self._count}"
        self._recent.append(event)
        for reader in tuple(self._readers):
            reader.tell(event)

    def end(self) -> None:
        """Let every reader go."""
        for reader in self._readers:
            reader.end()

    @contextlib.contextmanager
    def read(self, last: str, drop: Callable[[], None]) -> Iterator[Reader]:
        """Have a reader while the block runs, of what follows `last`, or of what comes; `drop` cuts it off.

        Raises ForgottenError where something between `last` and now is not known any more.
        """
        missed = self._after(last) if last else []
        reader = Reader(drop)
        for event in missed:
            reader.tell(event)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def _after(self, last: str) -> list[EventView]:
        run, _, number = last.partition("-")
        first = self._count - len(self._recent)
        known = run == self._run and re.fullmatch(r"[0-9]{1,18}", number)
        if known and first <= int(number) <= self._count:
            return list(self._recent)[int(number) - first :]
        msg = f"what followed event {last[:40]} is not known any more: list the publications and begin anew"
        raise ForgottenError(msg)
