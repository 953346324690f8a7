"""The service's background tasks: each goes on whatever happens to it, and says where it stands still."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.conditions import Conditions, Kind
from bridge.errors import BridgeError
from bridge.fence import Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """When a task that failed starts again. Seconds."""

    first: float = 1.0
    longest: float = 60.0
    """The delay is doubled each time, from the first to the longest."""
    probation: float = 30.0
    """A task that has run for so long again counts as running, and its next delay is the first one."""


_BACKOFF = Backoff()


class Tasks:
    """Keeps tasks running for ever. The condition TasksRunning names those that failed and are started again."""

    def __init__(self, conditions: Conditions, backoff: Backoff = _BACKOFF) -> None:
        self._conditions = conditions
        self._backoff = backoff
        self._failed: dict[str, str] = {}
        self._fence = Fence()
        self._tell()

    async def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, which never ends by itself, and start it again with backoff wherever it fails."""
        loop = asyncio.get_running_loop()
        delay = self._backoff.first
        while True:
            begun = loop.time()
            recovering = loop.call_later(self._backoff.probation, self._recover, name)
            try:
                with self._fence.around(f"task {name}"):
                    await work()
                said = "it ended"
            except (BridgeError, OSError, ExceptionGroup) as error:
                said = str(error)
            finally:
                recovering.cancel()
            if loop.time() - begun > self._backoff.probation:
                delay = self._backoff.first
            self._failed[name] = f"{name} failed and starts again: {said}"
            self._tell()
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._backoff.longest)

    def _recover(self, name: str) -> None:
        self._failed.pop(name, None)
        self._tell()

    def _tell(self) -> None:
        if self._failed:
            self._conditions.deny(Kind.TASKS_RUNNING, "Failed", "; ".join(self._failed.values()))
        else:
            self._conditions.confirm(Kind.TASKS_RUNNING)
