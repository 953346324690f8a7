"""Writes that a crash cannot halve, and the lock of the one publisher."""

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bridge.errors import LockedError, TreeError
from bridge.oci import Digest


def hash_file(path: Path) -> tuple[Digest, int]:
    """Return the sha256 digest and the size in bytes of a file, and have its bytes on the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return Digest("sha256", digest), os.fstat(file.fileno()).st_size


def read(path: Path) -> bytes:
    """Return the bytes of a file; raise TreeError where the disk has lost them, OSError as always for anything else."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        msg = f"the disk cannot read {path}: stop podbridge, and run `podbridge verify --repair`"
        raise TreeError(msg) from error


def write_atomically(path: Path, content: bytes, scratch: Path, *, durable: bool = True) -> None:
    """Replace `path` by `content` in one rename, by way of `scratch`, a directory on the same disk.

    With `durable` the content, and then the name, are on the disk when this returns. The time of the
    file is set to the nanosecond: the kernel's own may be the same for two replacements in a row, and
    a reader tells them apart by it.
    """
    temporary = scratch / f"{os.getpid()}-{path.name}"
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
        file.flush()
        os.utime(file.fileno(), ns=(now := time.time_ns(), now))
        if durable:
            os.fsync(file.fileno())
    temporary.rename(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its missing parents, and have their names on the disk."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o755)
    sync_directory(path.parent)


def names(directory: Path) -> Iterator[str]:
    """Yield the names in a directory; none where it is missing."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        yield from (entry.name for entry in entries)


class Lock:
    """An flock that one publisher holds. It goes with its process, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> Self:
        """Take the lock; raise LockedError with the holder's pid where it is taken."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            tree = self._path.parent
            msg = f"another podbridge, pid {holder}, publishes into {tree}: stop it first, or name another tree"
            raise LockedError(msg) from None
        except OSError as error:
            self.release()
            msg = f"cannot lock {self._path}: {error.strerror}"
            raise TreeError(msg) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
