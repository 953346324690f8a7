"""Listening on unix sockets that only their owner and a group may use."""

import contextlib
import grp
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import ConfigError, ListenError

log = logging.getLogger(__name__)

BACKLOG = socket.SOMAXCONN
"""Connections that may wait to be accepted, as many as at podman's own socket. One more fails at once with EAGAIN where
a client's connect does not block, as none in Go does."""

DRAIN = 10.0
"""Seconds that requests under way, of pulls and of the api socket, get to finish when podbridge stops."""


@contextlib.contextmanager
def unix_socket(path: Path, section: str, group: str | None = None) -> Iterator[socket.socket]:
    """Have a listening unix socket while the block runs: mode 0660, and of `group`, a name or a number.

    `section` is what the configuration calls it. Raises ListenError where another service has it, or where
    it cannot be made, and ConfigError for a group that does not exist.
    """
    number = -1 if group is None else _group(group, section)
    with socket.socket(socket.AF_UNIX) as listener:
        _bind(listener, path, number, section)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def warn_of_group(listener: socket.socket, section: str, group: str) -> None:
    """Warn where a socket that systemd made is not of `group`, a name or a number: its unit says whose it is."""
    with contextlib.suppress(OSError, ValueError):  # a path that has gone, a name that is no path
        number = Path(os.fsdecode(listener.getsockname())).stat().st_gid
        if group in (str(number), _name(number)):
            return
    log.warning(
        "not applied, the socket is systemd's, and its unit says whose it is: "
        "`systemctl edit podbridge-%s.socket`, [Socket], SocketGroup=%s key=%s.group",
        section, group, section,
    )  # fmt: skip


def _name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return ""


def _group(name: str, section: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        msg = f"{section}.group: there is no group {name!r}; make it with `groupadd --system {name}`"
        raise ConfigError(msg) from None


def _bind(listener: socket.socket, path: Path, group: int, section: str) -> None:
    try:
        _clear(path, section)
        _make_directory(path.parent, group)
        mask = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        os.chown(path, -1, group)
        listener.listen(BACKLOG)
    except OSError as error:
        msg = f"cannot listen on {path}: {error.strerror or error}; set another with `{section}: {{socket: …}}`"
        raise ListenError(msg) from error


def _make_directory(directory: Path, group: int) -> None:
    """Make the socket's directory: for its owner alone, or with a group also for that to pass through.

    One that was there keeps its mode: it may hold more than the socket.
    """
    if not directory.exists():
        directory.mkdir(mode=0o700, parents=True)
        if group >= 0:
            os.chown(directory, -1, group)
            directory.chmod(0o710)
        return
    status = directory.stat()
    passed = status.st_mode & stat.S_IXOTH or (status.st_mode & stat.S_IXGRP and status.st_gid == group)
    if group >= 0 and not passed:
        log.warning(
            "the group cannot reach the socket, its directory is closed: "
            "chgrp %d %s && chmod g+x %s",
            group, directory, directory,
        )  # fmt: skip


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
