"""Open files: how many there may be, how many of them clients get, and what it means that there are no more."""

import errno
import resource
from dataclasses import dataclass
from pathlib import Path

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
"""What the kernel says if it has no more of something now: descriptors, memory, processes. It passes."""

OWN = 64
"""Descriptors kept back for our own work. Four exports with their gates take about 60: each pipes to podman and to
a hook, files of the tree, and a connection to podman's socket."""

_LASTING = frozenset(
    {
        errno.E2BIG,
        errno.EACCES,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOEXEC,
        errno.ENOTDIR,
        errno.EPERM,
    }
)
"""What the kernel says of the file itself, and would say again."""

_inherited: list[int] = []
"""The soft limit that this process began with, where it has raised it."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Connections at a time of each socket of the service."""

    control: int
    api: int
    probes: int


def is_shortage(error: BaseException | None) -> bool:
    """Return True if an error only says that there is too little of something at the moment."""
    return isinstance(error, OSError) and error.errno in SHORTAGES


def may_pass(error: BaseException | None) -> bool:
    """Return True if an error of the kernel says nothing of the file itself: a shortage, or a disk that cannot read."""
    return isinstance(error, OSError) and error.errno not in _LASTING


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one. Idempotent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _inherited[:] = [soft]


def inherited() -> int | None:
    """Return the soft limit that programs get back; None where it is what this process has."""
    return _inherited[0] if _inherited else None


def shares() -> Shares:
    """Divide what is left of the limit: by what is open now, and by what our own work needs.

    A client of the api socket takes two descriptors, its own and one to podman. If very few are left, each socket
    still gets enough for commands; then clients that take all of them slow down our own work.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = sum(1 for _ in Path("/proc/self/fd").iterdir())
    left = max(0, soft - open_now - OWN)
    return Shares(control=_within(left // 4, 8, 256), api=_within(left // 6, 4, 256), probes=_within(left // 8, 3, 64))


def _within(number: int, least: int, most: int) -> int:
    return max(least, min(number, most))
