"""Listening on unix sockets that only their owner and their group may use."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import ListenError


@contextlib.contextmanager
def unix_socket(path: Path, section: str) -> Iterator[socket.socket]:
    """Have a listening unix socket, mode 0660, while the block runs; `section` of the configuration names it.

    Raises ListenError where another service has it, or where it cannot be made.
    """
    _clear(path, section)
    with socket.socket(socket.AF_UNIX) as listener:
        _bind(listener, path, section)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _bind(listener: socket.socket, path: Path, section: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mask = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(128)
    except OSError as error:
        msg = f"cannot listen on {path}: {error.strerror or error}; set another with `{section}: {{socket: …}}`"
        raise ListenError(msg) from error


def _clear(path: Path, section: str) -> None:
    """Remove a socket that a killed service left; refuse one on which somebody answers."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    msg = f"a podbridge runs already, on {section} socket {path}"
    raise ListenError(msg)
