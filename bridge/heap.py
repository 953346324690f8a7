"""Giving memory back to the system. The C library keeps what was freed between two things that are still in use."""

import asyncio
import ctypes
import gc

_MANY = 128
"""Connections that have to have gone until it is worth a look at the whole heap, of some milliseconds."""

_PAUSE = 2.0
"""Seconds from the first such moment until the look: they mostly go together, and looks are rare."""


class Heap:
    """Gives memory back after many connections have ended."""

    def __init__(self) -> None:
        self._now = 0
        self._most = 0
        """The most connections that there were since the last look."""
        self._timer: asyncio.TimerHandle | None = None

    def has(self, connections: int) -> None:
        """Hear how many connections there are now."""
        self._now = connections
        self._most = max(self._most, connections)
        if self._timer is None and self._most - connections >= _MANY:
            self._timer = asyncio.get_running_loop().call_later(_PAUSE, self._give_back)

    def _give_back(self) -> None:
        self._timer = None
        self._most = self._now
        gc.collect()  # what a TLS connection was made of refers to itself
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other libraries give back by themselves
        if trim is not None:
            trim(0)
