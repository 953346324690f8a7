"""Waiting for what happens in another task or process: gates and polling, each with a deadline."""

import asyncio
import contextlib
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 60.0
"""Seconds that anything may take which a test waits for: podbridge means one, a small and busy machine gets more."""
_POLL = 0.005


async def eventually(
    look: Callable[[], object | Awaitable[object]], *, within: float = DEADLINE, what: str = ""
) -> None:
    """Return as soon as `look`, or the coroutine it returns, is true; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if await found if inspect.isawaitable(found) else found:
            return
        if time.monotonic() > deadline:
            msg = f"not within {within:g} s: {what or look}"
            raise AssertionError(msg)
        await asyncio.sleep(_POLL)


async def opened_for_writing(fifo: Path) -> int:
    """Open a FIFO that somebody waits to read."""
    descriptors: list[int] = []

    def is_read() -> bool:
        with contextlib.suppress(OSError):
            descriptors.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(descriptors)

    await eventually(is_read, what=f"somebody reads {fifo.name}")
    return descriptors[0]


@dataclass(frozen=True, slots=True)
class Gate:
    """A closed gate: who comes to it says so and waits until it is opened. Works between processes."""

    path: Path

    @property
    def arrivals(self) -> Path:
        """The file that exists once somebody waits."""
        return self.path.with_name(self.path.name + ".reached")

    async def reached(self) -> None:
        """Wait until somebody waits at the gate."""
        await eventually(self.arrivals.exists, what=f"somebody at gate {self.path.name}")

    def open(self) -> None:
        """Let everybody through, now and later."""
        self.path.touch()

    def wait(self) -> None:
        """Wait at the gate, in a process of its own."""
        self.arrivals.touch()
        while not self.path.exists():
            time.sleep(_POLL)

    async def passing(self) -> None:
        """Wait at the gate, in a task."""
        self.arrivals.touch()
        while not self.path.exists():  # noqa: ASYNC110 - another process may open it
            await asyncio.sleep(_POLL)
