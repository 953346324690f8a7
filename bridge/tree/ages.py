"""How long something has been of no use: a clock that is set does not shorten the grace."""

import math
import time
from collections.abc import Hashable


class Ages:
    """The ages of things that a sweep may remove, in seconds.

    The wall clock says since when, across restarts; but a thing grows no older than by the monotonic clock, from the
    moment on at which this process first saw it.
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, float]] = {}

    def see(self, key: Hashable, since: float) -> float:
        """Return the age of what has been of no use `since`, in seconds since the epoch."""
        wall, now = time.time(), time.monotonic()
        credit, first = self._seen.setdefault(key, (max(0.0, wall - since), now))
        by_wall = wall - since if wall >= since else math.inf  # the clock was ahead then
        return min(by_wall, credit + now - first)

    def keep(self, keys: set[Hashable]) -> None:
        """Forget all but these."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}
