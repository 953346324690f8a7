"""The double's events streams: they tail a file, as podman's `file` logger does, and they can lie."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.double.faults import Fault
from tests.double.store import event

_POLL = 0.01
_PROBLEM = {"cause": "events_logger", "message": 'cannot read events with the "none" logger', "response": 500}
_LIES = (
    event("remove", "localhost/never:1", actor="0" * 64),
    event("build", ""),
    event("untag", "localhost/app:1"),
    event("refresh", "", kind="system"),
    event("start", "box", kind="container"),
)


@dataclass(frozen=True, slots=True)
class Stream:
    """What one events request gets to read.

    Faults: `eof` ends the stream at once, `problem` answers one error object and ends it, `none` loses
    every event, `doubled` says each twice, `reordered` says the last of those that wait first, `false`
    says things that never happened beside each, `lines` begins with other lines.
    """

    path: Path
    fault: Fault

    async def lines(self, ending: asyncio.Event) -> AsyncIterator[bytes]:
        """Yield lines until `ending`."""
        with self.path.open("rb") as file:
            file.seek(0, 2)
            if self.fault.kind in ("eof", "problem"):
                if self.fault.kind == "problem":
                    yield _line(_PROBLEM)
                return
            if self.fault.kind == "lines":
                for text in self.fault["lines"]:
                    yield text.encode(errors="surrogateescape") + b"\n"
            while not ending.is_set():
                for line in self._told(file.readlines()):
                    yield line
                await asyncio.sleep(_POLL)

    def _told(self, lines: list[bytes]) -> list[bytes]:
        match self.fault.kind:
            case "none":
                return []
            case "doubled":
                return [again for line in lines for again in (line, line)]
            case "reordered":
                return lines[::-1]
            case "false":
                return [told for line in lines for told in (*map(_line, _LIES), line)]
        return lines


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"
