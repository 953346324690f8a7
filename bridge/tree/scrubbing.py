"""The scrub: every blob of a tree is read again, slowly, since a disk may lose bytes and say nothing.

As ZFS and Ceph do it. It goes through the names in order, in slices of some minutes, and remembers the last one.
Decided in docs/decisions/0034-durable-views-and-the-scrub.md.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.tree import disk
from bridge.tree.contents import repositories
from bridge.tree.paths import TreePaths

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a slice takes, in seconds, and how many bytes it reads in a second."""

    seconds: float
    rate: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice did: the last name that it looked at, and whether that was the last of all.

    `damaged` are the names of blobs whose bytes are not those of their digest, or cannot be read.
    """

    last: str = ""
    is_last: bool = True
    blobs: int = 0
    read: int = 0
    damaged: tuple[str, ...] = ()


def scrub(root: Path, after: str, limit: Limit) -> Slice:
    """Read the blobs whose names come after `after` until the time is over; at least one. Reads only."""
    paths, pace = TreePaths(root), _Pace(limit.rate)
    copies = _copies(paths)
    done = Slice(last=after)
    for name in sorted(name for name in disk.names(paths.blobs) if name > after):
        if done.blobs and pace.elapsed > limit.seconds:
            return Slice(done.last, False, done.blobs, pace.read, done.damaged)
        places = (paths.blobs / name, *copies.get(name, ()))
        is_damaged = not all(_is_right(place, pace) for place in places)
        done = Slice(name, True, done.blobs + 1, pace.read, (*done.damaged, name) if is_damaged else done.damaged)
    return Slice(done.last, True, done.blobs, pace.read, done.damaged)


class _Pace:
    """Holds the rate: sleeps as long as more was read than the time allows."""

    def __init__(self, rate: int) -> None:
        self.read = 0
        self._rate = rate
        self._begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def note(self, size: int) -> None:
        self.read += size
        time.sleep(max(0.0, self.read / self._rate - self.elapsed))


def _is_right(path: Path, pace: _Pace) -> bool:
    seen = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # the disk is asked, not the page cache
            while chunk := file.read(_CHUNK):
                seen.update(chunk)
                pace.note(len(chunk))
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError:
        return True  # swept meanwhile
    except OSError:
        return False
    return seen.hexdigest() == path.name


def _copies(paths: TreePaths) -> dict[str, list[Path]]:
    """Return the blobs of repositories that are no links to the tree's, by name."""
    found: dict[str, list[Path]] = {}
    for path, name in _links(paths):
        if not disk.is_same(path, paths.blobs / name):
            found.setdefault(name, []).append(path)
    return found


def _links(paths: TreePaths) -> Iterator[tuple[Path, str]]:
    for repository in repositories(paths):
        blobs = paths.repository(repository).blobs / "sha256"
        for name in disk.names(blobs):
            yield blobs / name, name
