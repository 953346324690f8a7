"""Encodings: blobs in an HTTP content coding, made after publishing, sent in place of the blob itself.

    encoded/gzip/<hex>        the blob, compressed
    encoded/identity/<hex>    empty: this blob does not shrink, and is sent as it is
    encoded/staging/<hex>     the encoding under way; emptied by the next pass

Nothing depends on any of it: the whole directory may be removed at any time, and what is missing is
made again. Measured and decided in docs/decisions/0009-encodings.md.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal.isal_zlib import compressobj, decompressobj

from bridge.descriptors import is_shortage
from bridge.errors import BridgeError, TreeError
from bridge.fence import Fence
from bridge.tree import disk
from bridge.tree.contents import repositories
from bridge.tree.paths import TreePaths

log = logging.getLogger(__name__)

SMALLEST = 64 * 1024
"""Bytes up to which a blob has no encoding: it leaves in one write, and compressing saves no packet's time."""

_LEVEL = 1
"""ISA-L's level: 2 is 1 % smaller and 8 % slower, 3 is 3 % smaller and takes twice the time."""

_WORTH = 0.9
"""The most that an encoding may be of its blob's size."""

_FREE = 0.1
"""The part of the disk that encodings leave free, whatever `space` allows."""

_CHUNK = 1024 * 1024
_GZIP = 31  # zlib's window bits: 32 KiB, with gzip's header and trailer, no name and no time in it


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a pass did: blobs encoded, the bytes they had and have, and what was wrong with others."""

    made: int = 0
    read: int = 0
    written: int = 0
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Blob:
    name: str
    size: int
    time: int


def encode(root: Path, space: int) -> Encoded:
    """Encode every published blob that lacks its encoding, newest first, into at most `space` bytes in all.

    One pass, idempotent: a second one finds nothing to do. The encodings of the oldest blobs make
    room for those of newer ones. Does nothing where another pass is under way. Blocks for as long as it takes; a
    kill at any time leaves whole encodings only. Raises OSError where the disk fails.
    """
    paths = TreePaths(root)
    disk.make_directory(paths.encoded)
    with _alone(paths.encoded) as alone:
        if not alone:
            return Encoded()
        _tidy(paths)
        return _Pass(paths, space).run()


class _Pass:
    """One pass over the blobs of a tree."""

    def __init__(self, paths: TreePaths, space: int) -> None:
        self._paths = paths
        self._space = space
        self._done = Encoded()
        self._fence = Fence()
        self._blobs = sorted(self._published(), key=lambda blob: (-blob.time, blob.name))
        self._left = set(disk.names(paths.unencodable))
        self._held = dict(_sizes(paths.encodings))

    def run(self) -> Encoded:
        newer = 0
        for blob in self._blobs:
            if blob.name not in self._left and blob.name not in self._held:
                self._consider(blob, newer)
            newer += self._held.get(blob.name, 0)
        self._make_room(0)
        return self._done

    def _published(self) -> Iterator[_Blob]:
        """Yield every blob that is large enough and that some repository has; note what cannot be looked at."""
        published: set[str] = set()
        for repository in repositories(self._paths, self._note_unread):
            try:
                published |= set(disk.names(self._paths.repository(repository).blobs / "sha256"))
            except OSError as error:
                self._note_unread(error)
        with os.scandir(self._paths.blobs) as entries:
            for entry in (entry for entry in entries if entry.name in published):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._note_unread(error)
                    continue
                if status.st_size > SMALLEST:
                    yield _Blob(entry.name, status.st_size, status.st_mtime_ns)

    def _note_unread(self, error: OSError) -> None:
        self._note(faults=f"blobs are not encoded: {error.filename} cannot be read: {error.strerror}")

    def _consider(self, blob: _Blob, newer: int) -> None:
        """Encode a blob if that fits beside the encodings of newer ones, however little it shrinks.

        So no work is thrown away, and no encoding makes room for one that is older.
        """
        worst = int(blob.size * _WORTH)
        if newer + worst > self._budget:
            return
        self._make_room(worst)
        try:
            with self._fence.around(f"the encoding of {blob.name}"):
                size = _encode(self._paths, blob)
        except FileNotFoundError:
            return  # the blob was swept, or all encodings dropped, while this ran
        except BridgeError as error:
            self._note(faults=str(error))
            return
        if size is not None:
            self._held[blob.name] = size
            self._note(read=blob.size, written=size)

    @property
    def _budget(self) -> int:
        """The bytes that encodings may take now: what is allowed, and no more than leaves the disk its rest."""
        status = os.statvfs(self._paths.encoded)
        spare = (status.f_bavail - int(status.f_blocks * _FREE)) * status.f_frsize
        return min(self._space, sum(self._held.values()) + spare)

    def _make_room(self, needed: int) -> None:
        excess = sum(self._held.values()) + needed - self._budget
        for blob in reversed(self._blobs):
            if excess <= 0:
                return
            size = self._held.pop(blob.name, 0)
            if size:
                (self._paths.encodings / blob.name).unlink(missing_ok=True)
                excess -= size

    def _note(self, read: int = 0, written: int = 0, faults: str = "") -> None:
        done = self._done
        self._done = Encoded(
            done.made + bool(written),
            done.read + read,
            done.written + written,
            (*done.faults, faults) if faults else done.faults,
        )


def _encode(paths: TreePaths, blob: _Blob) -> int | None:
    """Encode a blob, and return the encoding's size; None, and a mark, where it does not shrink enough.

    What is renamed to its place was hashed on its way and is on the disk: a crash cannot leave the name
    without the bytes. A lost mark costs one more try.
    """
    for directory in (paths.encodings, paths.unencodable, paths.encoding_staging):
        disk.make_directory(directory)
    scratch = paths.encoding_staging / blob.name
    try:
        with _opened(paths.blobs / blob.name) as source, scratch.open("wb") as target:
            size = _compress(source, target, blob)
            if size is not None:
                os.fchmod(target.fileno(), 0o644)
                target.flush()
                os.fsync(target.fileno())
        if size is None:
            (paths.unencodable / blob.name).touch(mode=0o644)
        else:
            scratch.rename(paths.encodings / blob.name)
    finally:
        scratch.unlink(missing_ok=True)
    return size


def _compress(source: BinaryIO, target: BinaryIO, blob: _Blob) -> int | None:
    """Write the encoding and return its size; None as soon as it is too large.

    Every byte that is written is decompressed and hashed at once, so what arrives is what a client
    will see. Raises TreeError where that is not the blob.
    """
    written, limit = 0, int(blob.size * _WORTH)
    witness, seen = decompressobj(wbits=_GZIP), hashlib.sha256()
    for piece in _pieces(source):
        written += len(piece)
        if written > limit:
            return None
        target.write(piece)
        seen.update(witness.decompress(piece))
    if seen.hexdigest() != blob.name or not witness.eof:
        msg = f"blob sha256:{blob.name} is not encoded: its bytes are damaged; run `podbridge verify`"
        raise TreeError(msg)
    return written


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    compressor = compressobj(_LEVEL, wbits=_GZIP)
    while chunk := _read(source):
        yield compressor.compress(chunk)
    yield compressor.flush()


def _opened(path: Path) -> BinaryIO:
    with _reading(path.name):
        return path.open("rb")


def _read(source: BinaryIO) -> bytes:
    with _reading(Path(source.name).name):
        return source.read(_CHUNK)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Have a blob that the disk cannot read fail as that blob: TreeError. What cannot be written is no fault of it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) or is_shortage(error):
            raise
        msg = f"blob sha256:{name} is not encoded: it cannot be read: {error.strerror}; run `podbridge verify`"
        raise TreeError(msg) from error


def is_whole(encoding: Path) -> bool:
    """Say whether an encoding decompresses to the blob that it is named after. Reads all of it.

    By zlib, so that what ISA-L made is judged by another program.
    """
    witness, seen = zlib.decompressobj(wbits=_GZIP), hashlib.sha256()
    with encoding.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK // 16):
                seen.update(witness.decompress(chunk))
        except zlib.error:
            return False
    return bool(witness.eof) and not witness.unused_data and seen.hexdigest() == encoding.name


def drop(paths: TreePaths, name: str, *, dry_run: bool = False) -> int:
    """Remove what was made of the blob `name`, before the blob itself goes. Returns the bytes that frees."""
    encoding = paths.encodings / name
    try:
        size = encoding.stat().st_size
    except FileNotFoundError:
        size = 0  # none was made, or another pass was quicker
    if not dry_run:
        encoding.unlink(missing_ok=True)
        (paths.unencodable / name).unlink(missing_ok=True)
    return size


def _tidy(paths: TreePaths) -> None:
    """Remove what a killed pass left, and encodings whose blob was swept while they were made."""
    for name in disk.names(paths.encoding_staging):
        (paths.encoding_staging / name).unlink(missing_ok=True)
    for name in {*disk.names(paths.encodings), *disk.names(paths.unencodable)} - set(disk.names(paths.blobs)):
        drop(paths, name)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Say whether this is the one pass under way, and hold others off while the block runs."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _sizes(directory: Path) -> Iterator[tuple[str, int]]:
    for name in disk.names(directory):
        with contextlib.suppress(FileNotFoundError):
            yield name, (directory / name).stat().st_size
