"""Writes that a crash cannot halve, and the lock of the one publisher."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

from bridge.errors import LockedError, TreeError
from bridge.oci import Digest

UNLINKABLE = frozenset({errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP})
"""Why a hard link cannot be made where a copy can: too many of one file (ext4: 65,000), or the file system has none."""

_CHUNK = 1 << 30
"""Bytes that one call copies at the most."""

_TRIES = 3
"""Reads that fail before what was to be read counts as lost."""

_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What the machine lacks for a moment: no damage, and nothing may be removed for it."""

_Read = TypeVar("_Read")


def hash_file(path: Path) -> tuple[Digest, int]:
    """Return the sha256 digest and the size in bytes of a file, and have its bytes on the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return Digest("sha256", digest), os.fstat(file.fileno()).st_size


def is_damaged(path: Path, digest: Digest) -> bool:
    """Return True if the file is there and is not what its digest names, or the disk has lost it. Reads all of it."""

    def differs() -> bool:
        with path.open("rb") as file:
            return hashlib.file_digest(file, digest.algorithm).hexdigest() != digest.hex

    try:
        return _insist(differs)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _SHORT:
            raise
        return True


def _insist(read: Callable[[], _Read]) -> _Read:
    """Read once more where the disk fails: an error that does not stay is no damage."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
    return read()


def read(path: Path) -> bytes:
    """Return the bytes of a file; raise TreeError where the disk has lost them, OSError as always for anything else."""
    try:
        return _insist(path.read_bytes)
    except IsADirectoryError as error:
        msg = f"{path} is a directory, and should be a file"
        raise TreeError(msg) from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        msg = f"the disk cannot read {path}: stop podbridge, and run `podbridge verify --repair`"
        raise TreeError(msg) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, and have its content on the disk. Its name may be lost by a power cut."""
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
        file.flush()
        os.utime(file.fileno(), ns=(now := time.time_ns(), now))
        os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes, scratch: Path, *, settled: bool = True) -> None:
    """Replace `path` by `content` in one rename, by way of `scratch`, a directory on the same disk.

    The content is on the disk before it gets the name, so that a power cut leaves the old file or the new one, and
    never an empty one. With `settled` the name is on the disk, too, when this returns. The time of the file is set to
    the nanosecond: the kernel's own may be the same for two replacements in a row, and a reader tells them apart by it.
    """
    temporary = scratch / f"{os.getpid()}-{path.name}"
    try:
        write_file(temporary, content)
        put(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if settled:
        sync_directory(path.parent)


def put(temporary: Path, path: Path) -> None:
    """Give a file its place in one rename, over what else is there."""
    try:
        temporary.rename(path)
    except IsADirectoryError:
        remove(path)
        temporary.rename(path)


def remove(path: Path) -> None:
    """Remove what lies in the place of a file, if anything: a directory, too, which no publisher makes there."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        shutil.rmtree(path)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its missing parents, and have their names on the disk.

    Its mode does not depend on the umask: another user's web server may have to read it.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o755)
        path.chmod(0o755)
    sync_directory(path.parent)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy of it where the file system has no hard links, or no more for this file.

    Raises FileExistsError where `target` is there. A copy has its bytes on the disk.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in UNLINKABLE:
            raise
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can, and have the bytes on the disk.

    Raises FileExistsError where `target` is there. A copy that fails leaves nothing.
    """
    with source.open("rb") as original, target.open("xb") as made:
        try:
            _copy_bytes(original, made)
            os.fchmod(made.fileno(), 0o644)
            made.flush()
            os.fsync(made.fileno())
        except OSError:
            target.unlink(missing_ok=True)
            raise


def _copy_bytes(original: BinaryIO, made: BinaryIO) -> None:
    try:
        while os.copy_file_range(original.fileno(), made.fileno(), _CHUNK):
            pass
    except OSError as error:
        if error.errno not in UNLINKABLE | {errno.EINVAL}:
            raise
        original.seek(0)
        made.seek(0)
        shutil.copyfileobj(original, made)


def size(path: Path | str) -> int:
    """Return the bytes of a file; -1 if there is none, or something else has its name."""
    try:
        status = os.stat(path)  # noqa: PTH116 # of each blob of a tree: a Path costs more than the call
    except (FileNotFoundError, NotADirectoryError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def is_same(one: Path | str, other: Path | str) -> bool:
    """Return True if both names are there and name one file."""
    try:
        return os.path.samestat(os.stat(one), os.stat(other))  # noqa: PTH116 # as above
    except FileNotFoundError:
        return False


def kind(path: Path) -> str:
    """Return what the file system is called that `path` lies on; empty where the kernel does not tell."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == number:
            return after.split()[0]
    return ""


def names(directory: Path | str) -> Iterator[str]:
    """Yield the names in a directory; none where it is missing."""
    with contextlib.suppress(FileNotFoundError):
        yield from os.listdir(directory)  # noqa: PTH208 # of each repository of a tree: a Path for each name costs more


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
