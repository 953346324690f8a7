"""Real files to fill layers with: they compress as software does, which neither zeros nor random bytes do."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

MB = 1_000_000
SOURCES = ("/usr/bin", "/usr/lib", "/usr/share")
LARGEST = 8 * MB
"""Bytes; larger files are passed over, or a few of them would be a whole layer."""


class Software:
    """The files of this machine's /usr, dealt out once each, in an order that is the same in every run."""

    def __init__(self) -> None:
        self._files = iter(sorted(_files(), key=_shuffled))

    def fill(self, directory: Path, size: int) -> None:
        """Copy files into the new `directory` until it holds exactly `size` bytes; the last one is cut.

        Raises:
            RuntimeError: this machine has too little software.
        """
        directory.mkdir(parents=True)
        for number, path in enumerate(self._files):
            copy = directory / f"{number:05}{Path(path).suffix}"
            shutil.copyfile(path, copy)
            size -= copy.stat().st_size
            if size <= 0:
                os.truncate(copy, copy.stat().st_size + size)
                return
        message = f"{' '.join(SOURCES)} hold too few files: {size} bytes are missing in {directory}"
        raise RuntimeError(message)


def _files() -> Iterator[str]:
    for source in SOURCES:
        for directory, _, names in os.walk(source):
            for name in names:
                status = os.lstat(path := f"{directory}/{name}")
                if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= LARGEST:
                    yield path


def _shuffled(path: str) -> bytes:
    return hashlib.sha256(os.fsencode(path)).digest()
