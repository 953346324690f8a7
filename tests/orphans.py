"""What the tests start ends with them, however they end: also by ^C, by a kill, and in each worker of xdist.

A process that the kernel has given to another parent cannot be found by its parents any more, and a death signal does
not reach what a program starts itself. So every process of a test run has a mark of that run in its environment, which
children inherit, and a guard outside the run kills all that have the mark when the run is over.

    python tests/orphans.py MARK PID
"""

import contextlib
import os
import secrets
import select
import signal
import sys
from pathlib import Path

_NAME = "PODBRIDGE_TEST_RUN"


def guard() -> None:
    """Have all that this process starts from now on killed when it has ended."""
    mark = f"{_NAME}={secrets.token_hex(8)}"
    unmarked = {key: value for key, value in os.environ.items() if key != _NAME}
    os.environ[_NAME] = mark.partition("=")[2]
    silent = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0), *((os.POSIX_SPAWN_DUP2, 0, to) for to in (1, 2))]
    words = [sys.executable, __file__, mark, str(os.getpid())]
    os.posix_spawn(sys.executable, words, unmarked, file_actions=silent, setsid=True)  # it is never waited for


def marked(mark: str) -> list[int]:
    """Return the processes that have the mark in the environment that they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def main() -> None:
    """Wait for the end of the run, and kill what is left of it: again, as long as there is something."""
    mark, run = sys.argv[1], int(sys.argv[2])
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(run)], [], [])
    while left := marked(mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
