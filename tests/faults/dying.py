"""Runs podbridge again and again, and kills it with SIGKILL just before its Nth change of the tree.

    python dying.py TREE sync --config=…

Reads one N a line from standard input, and answers each with a line: how many changes were made and the
exit status. Every change is counted where CPython's audit hooks tell of it: a file opened to be written,
a rename, a link, a directory made, anything removed, a mode or a time set. With N = 0 nothing is killed.
Each run is a fork: what takes longest, the imports, is done once.
"""

import contextlib
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any

_PLACED = frozenset({"os.rename", "os.link", "os.mkdir"})
_OTHER = frozenset({"os.remove", "os.rmdir", "os.chmod", "os.utime", "os.truncate"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Counter:
    """Counts changes below `tree` in memory that outlives its process, and kills it before number `last`."""

    def __init__(self, tree: str, last: int) -> None:
        self._tree = tree
        self._last = last
        self._shared = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        """How many changes there were."""
        return int.from_bytes(self._shared[:8], "big")

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Be told of an audit event."""
        if self._changes(event, arguments):
            if self.count + 1 == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            self._shared[:8] = (self.count + 1).to_bytes(8, "big")

    def _changes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event in _OTHER:
            return True
        writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & _WRITING)
        return (writes or event in _PLACED) and any(str(item).startswith(self._tree) for item in arguments[:2])


def main() -> None:
    """Be podbridge once for each line."""
    tree, *words = sys.argv[1:]
    sys.argv = ["podbridge", *words]
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from bridge.cli import main as podbridge  # noqa: PLC0415 - the path had to be set
    from bridge.cli import run, terminal  # noqa: F401, PLC0415 - imported once, before the forks
    from bridge.service import parts, serve  # noqa: F401, PLC0415

    for line in sys.stdin:
        counter = Counter(tree, int(line))
        child = os.fork()
        if not child:
            sys.addaudithook(counter)
            with contextlib.redirect_stdout(sys.stderr):
                podbridge()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(counter.count, status, flush=True)


if __name__ == "__main__":
    main()
