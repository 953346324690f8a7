"""Noticing that files were replaced while the registry runs: a look costs one stat each, and there is no timer."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

_SETTLED = 500_000_000
"""Nanoseconds since a file was last written after which it counts as whole: editors truncate, then write;
a certificate and its key come one after the other."""

_Stamp = tuple[int, int, int] | None


class Files:
    """Files that somebody else writes. The first look is taken at once."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._look()

    def changed(self) -> bool:
        """Say, once for each change, that a file is another one, is gone or has come; not while it may be half written.

        Ask before reading the files: what changes after the answer is told by the next one.
        """
        stamps = self._look()
        now = time.time_ns()
        if stamps == self._seen or any(stamp and 0 <= now - stamp[1] < _SETTLED for stamp in stamps):
            return False
        self._seen = stamps
        return True

    def forget(self) -> None:
        """Have the files count as changed at the next look: they could not be read now."""
        self._seen = ()

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> _Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 # at every request: a Path costs ten times the call
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
