"""What is known of the service's state, as conditions: each logged once when it changes."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What a condition speaks of."""

    PODMAN_REACHABLE = "PodmanReachable"
    EVENTS_STREAMING = "EventsStreaming"
    DOORBELL_ARMED = "DoorbellArmed"
    TREE_WRITABLE = "TreeWritable"
    TREE_WHOLE = "TreeWhole"
    SYNCED = "Synced"
    TASKS_RUNNING = "TasksRunning"
    READY = "Ready"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `status` is None while nothing is known; `since` is in seconds since the epoch."""

    kind: Kind
    status: bool | None
    reason: str
    message: str
    since: float


class Conditions:
    """All conditions of one service. A change is logged, a repetition is not."""

    def __init__(self) -> None:
        now = time.time()
        self._all = {kind: Condition(kind, None, "Unknown", "", now) for kind in Kind}

    def __iter__(self) -> Iterator[Condition]:
        return iter(self._all.values())

    def __getitem__(self, kind: Kind) -> Condition:
        return self._all[kind]

    def confirm(self, kind: Kind, reason: str = "Ok", message: str = "") -> None:
        """Say that the condition holds."""
        before = self._set(kind, True, reason, message)
        if before is False:
            log.info("condition holds again condition=%s reason=%s", kind, reason)

    def deny(self, kind: Kind, reason: str, message: str, *, follows: bool = False) -> None:
        """Say that the condition does not hold, and why: for an operator to read.

        Where it merely `follows` from another one, which says so itself, it is no warning of its own.
        """
        before = self._set(kind, False, reason, message)
        if before is not False:
            level = logging.DEBUG if follows else logging.WARNING
            log.log(level, "condition lost condition=%s reason=%s message=%r", kind, reason, message)

    def _set(self, kind: Kind, status: bool, reason: str, message: str) -> bool | None:
        old = self._all[kind]
        since = old.since if old.status is status else time.time()
        self._all[kind] = Condition(kind, status, reason, message, since)
        return old.status
