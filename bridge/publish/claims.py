"""Which exports may run side by side: a few, and never two of one image, or that would read the same layer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet

from bridge.oci import Digest

Missing = Callable[[], AbstractSet[Digest]]


class Claims:
    """At most `limit` claims at a time, on images and layers that no other claim names."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: list[AbstractSet[Digest]] = []
        self._alone = False
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def claim(self, missing: Missing, *, alone: bool = False) -> AsyncIterator[None]:
        """Hold what `missing()` says while the block runs; with `alone` beside no other claim.

        It is asked again whenever another claim ends: what that one brought in is missing no more, so
        that images on a new base wait for the first of them and read the base once.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_free(missing(), alone=alone))
            mine = missing()
            self._held.append(mine)
            self._alone = alone
        try:
            yield
        finally:
            async with self._changed:
                self._held.remove(mine)
                self._alone = False
                self._changed.notify_all()

    def _is_free(self, missing: AbstractSet[Digest], *, alone: bool) -> bool:
        if self._alone or (alone and self._held):
            return False
        return len(self._held) < self._limit and not any(missing & held for held in self._held)
