"""Programs that podbridge runs: a process group of their own, killed whole, and never left behind.

What is true of podman and of hooks alike. It lies below both, because neither room may import the other.
"""

import contextlib
import functools
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from bridge import descriptors

_PRIVATE = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables that speak to podbridge alone: a program would take them for its own."""

_GUARD = ("setpriv", "--pdeathsig", "KILL", "--")
"""Has a program die with podbridge, also where podbridge is killed."""


def guarded(command: Sequence[str]) -> list[str]:
    """Return the words that run `command` so that it dies with the thread that starts it: start it on the main thread.

    Where util-linux is missing, or may do nothing (a unit without capabilities, whose control group is ended
    whole), it is run as it is.
    """
    return [*_guard(), *_with_limit(), *command]


def _with_limit() -> tuple[str, ...]:
    """Return the words that give a program the soft limit of open files that podbridge was given.

    podbridge raises its own. A program that uses select(2) cannot have descriptors from 1024 on.
    """
    soft = descriptors.inherited()
    return () if soft is None else ("/bin/sh", "-c", 'ulimit -S -n "$0"; exec "$@"', str(soft))


@functools.cache
def _guard() -> tuple[str, ...]:
    if shutil.which(_GUARD[0]) is None:
        return ()
    try:
        tried = subprocess.run([*_GUARD, "true"], check=False, stderr=subprocess.DEVNULL)  # noqa: S603 - fixed words
    except OSError as error:
        if not descriptors.is_shortage(error):
            return ()
        raise  # told as every program that cannot be started now, and looked at again
    return _GUARD if tried.returncode == 0 else ()


def bound(command: Sequence[str]) -> tuple[list[str], int]:
    """Return the words that run `command` so that its whole group dies with podbridge, and a descriptor to pass on.

    What a program has started does not die with it, so one process of its group waits for the end of a
    pipe that podbridge holds open, and then kills the group. The words are the arguments of a fixed script.
    """
    end = _lifeline()
    watch = '(read _ <"/dev/fd/$0"; kill -KILL 0) </dev/null >/dev/null 2>&1 &'
    later = f"trap 'exit {os.EX_TEMPFAIL}' EXIT;"  # where the shell cannot fork: it says nothing of the program
    return ["/bin/sh", "-c", f'{later} {watch} trap - EXIT; exec "$@"', str(end), *_with_limit(), *command], end


@functools.cache
def _lifeline() -> int:
    """Return the reading end of a pipe whose other end nobody closes but the kernel, when podbridge is gone."""
    return os.pipe()[0]


def inherited() -> dict[str, str]:
    """Return podbridge's environment without what is meant for podbridge alone."""
    return {key: value for key, value in os.environ.items() if key not in _PRIVATE}


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to every process of a group, as far as some are left and ours to end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def spooled(pid: int) -> int:
    """Return how many bytes lie in files without a name that a process, or one that it started, holds open.

    podman 5.8.6 spools a layer into a file that it unlinks at once, so nothing is seen to grow in TMPDIR (measured).
    """
    found = 0
    for process in _family(pid):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
            for entry in os.scandir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    found += status.st_size if stat.S_ISREG(status.st_mode) and not status.st_nlink else 0
    return found


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                yield from _family(int(child))
