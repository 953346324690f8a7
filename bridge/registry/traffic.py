"""What a registry has served: counted where it is served, added up where it is asked for."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was served up to a moment.

    `requests` counts by HTTP status; `sent` the bytes of bodies by content coding, also of those that
    were cut; `last` is when the last request ended, in seconds since the epoch, 0 where there was none.
    """

    requests: Mapping[int, int] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    connections: int = 0
    under_way: int = 0
    last: float = 0.0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            _added(self.requests, other.requests),
            _added(self.sent, other.sent),
            self.connections + other.connections,
            self.under_way + other.under_way,
            max(self.last, other.last),
        )

    def ended(self) -> "Traffic":
        """Return what is left of it when its process has gone."""
        return replace(self, connections=0, under_way=0)


def _added(one: Mapping[_Key, int], other: Mapping[_Key, int]) -> Mapping[_Key, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


class Meter:
    """Counts the traffic of this process. `changed` is called at every change, and must be cheap."""

    def __init__(self) -> None:
        self.connections = 0
        self.under_way = 0
        self.changed: Callable[[], None] = lambda: None
        self._requests: Counter[int] = Counter()
        self._sent: Counter[str] = Counter()
        self._last = 0.0

    @property
    def traffic(self) -> Traffic:
        """What was served until now."""
        return Traffic(dict(self._requests), dict(self._sent), self.connections, self.under_way, self._last)

    def connected(self, change: int) -> None:
        """Count a connection in (1) or out (-1)."""
        self.connections += change
        self.changed()

    def answered(self, status: int, coding: str, size: int) -> None:
        """Count a request that has ended, and the bytes of its body."""
        self._requests[status] += 1
        if size:
            self._sent[coding] += size
        self._last = time.time()
        self.changed()
