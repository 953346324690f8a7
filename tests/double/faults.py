"""Faults on demand: a queue at each point of the double, on disk, so that every process of it sees them.

Points: `version`, `listing`, `inspect`, `exists`, `events`, `save`, `export`, `service`. What the service says
instead of the truth is at `answer-version`, `answer-info`, `answer-listing`, `answer-inspect` and `answer-exists`.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong once at one point."""

    kind: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.details[name]


NONE = Fault()


@dataclass(frozen=True, slots=True)
class Faults:
    """The queue of faults in `directory`."""

    directory: Path

    def add(self, point: str, kind: str, *, times: int | None = 1, **details: Any) -> None:
        """Have the next `times` visits of the point fail, or all until it is healed."""
        with self._queue(point) as queue:
            queue.append({"kind": kind, "times": times, "details": details})

    def lie(self, question: str, body: bytes, *, status: int = 200, times: int | None = 1) -> None:
        """Have a question answered with these bytes."""
        self.add(f"answer-{question}", "answer", times=times, body=body.decode("latin-1"), status=status)

    def take(self, point: str) -> Fault:
        """Return what goes wrong at this visit of the point; `NONE` if nothing does."""
        with self._queue(point) as queue:
            if not queue:
                return NONE
            first = queue[0]
            if first["times"] is not None:
                first["times"] -= 1
                if first["times"] == 0:
                    queue.pop(0)
            return Fault(first["kind"], first["details"])

    def heal(self, point: str) -> None:
        """Have nothing more go wrong at the point."""
        with self._queue(point) as queue:
            queue.clear()

    @contextmanager
    def _queue(self, point: str) -> Iterator[list[dict[str, Any]]]:
        self.directory.mkdir(exist_ok=True)
        with (self.directory / point).open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            queue: list[dict[str, Any]] = json.loads(file.read() or "[]")
            yield queue
            file.truncate(0)
            file.write(json.dumps(queue))
