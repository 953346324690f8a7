"""The sockets of the control API, and of the probes on TCP."""

import contextlib
import grp
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aiohttp import web

from bridge.control import answers
from bridge.control.api import Control, Probes, Sources
from bridge.errors import ConfigError, ListenError
from bridge.units import Address

log = logging.getLogger(__name__)


@contextlib.contextmanager
def listening(path: Path, group: str | None = None) -> Iterator[socket.socket]:
    """Have a listening unix socket while the block runs: mode 0660, and of `group`, a name or a number.

    Raises ListenError where another service has it, or where it cannot be made, and ConfigError for a
    group that does not exist.
    """
    number = -1 if group is None else _group(group)
    _clear(path)
    with socket.socket(socket.AF_UNIX) as listener:
        _bind(listener, path, number)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _group(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        msg = f"control.group: there is no group {name!r}; make it with `groupadd --system {name}`"
        raise ConfigError(msg) from None


def _bind(listener: socket.socket, path: Path, group: int) -> None:
    try:
        _make_directory(path.parent, group)
        mask = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        os.chown(path, -1, group)
        listener.listen(128)
    except OSError as error:
        msg = f"cannot listen on {path}: {error.strerror or error}; set another with `control: {{socket: …}}`"
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
            "the group cannot reach the control socket, its directory is closed: "
            "chgrp %d %s && chmod g+x %s",
            group, directory, directory,
        )  # fmt: skip


def _clear(path: Path) -> None:
    """Remove a socket that a killed service left; refuse one on which somebody answers."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    msg = f"a podbridge runs already, on control socket {path}"
    raise ListenError(msg)


@contextlib.contextmanager
def listening_on_tcp(address: Address) -> Iterator[socket.socket]:
    """Have a listening TCP socket while the block runs; raise ListenError where that cannot be."""
    try:
        kind, _, _, _, found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(found[:2], family=kind)
    except OSError as error:
        msg = f"cannot listen on {address}: {error.strerror}; set another with `metrics: {{listen: HOST:PORT}}`"
        raise ListenError(msg) from error
    with listener:
        yield listener


def address_of(listener: socket.socket) -> str:
    """Return where a TCP socket listens, `HOST:PORT`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.asynccontextmanager
async def serving(sources: Sources, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the control API on `listener` while the block runs."""
    async with _running(Control(sources).application(), listener):
        yield


@contextlib.asynccontextmanager
async def probed(sources: Sources, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the metrics and the probes, and nothing else, on `listener` while the block runs."""
    application = web.Application(middlewares=[answers.errors])
    application.add_routes(Probes(sources).routes())
    async with _running(application, listener):
        yield


@contextlib.asynccontextmanager
async def _running(application: web.Application, listener: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
