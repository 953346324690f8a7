"""The service's background tasks: each goes on whatever happens to it, and says where it stands still."""

import asyncio
from collections.abc import Awaitable, Callable

from bridge.conditions import Conditions, Kind
from bridge.errors import BridgeError
from bridge.fence import Fence

FIRST_DELAY = 1.0
MAX_DELAY = 60.0
"""Seconds until a task that failed starts again: doubled each time from the first to the last."""
PROBATION = 30.0
"""Seconds after which a task that was started again counts as running."""


class Tasks:
    """Keeps tasks running for ever. The condition TasksRunning names those that failed and are started again."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._failed: dict[str, str] = {}
        self._fence = Fence()
        self._tell()

    async def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, which never ends by itself, and start it again with backoff wherever it fails."""
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while True:
            begun = loop.time()
            recovering = loop.call_later(PROBATION, self._recover, name)
            try:
                with self._fence.around(f"task {name}"):
                    await work()
                said = "it ended"
            except (BridgeError, OSError, ExceptionGroup) as error:
                said = str(error)
            finally:
                recovering.cancel()
            if loop.time() - begun > PROBATION:
                delay = FIRST_DELAY
            self._failed[name] = f"{name} failed and starts again: {said}"
            self._tell()
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_DELAY)

    def _recover(self, name: str) -> None:
        self._failed.pop(name, None)
        self._tell()

    def _tell(self) -> None:
        if self._failed:
            self._conditions.deny(Kind.TASKS_RUNNING, "Failed", "; ".join(self._failed.values()))
        else:
            self._conditions.confirm(Kind.TASKS_RUNNING)
