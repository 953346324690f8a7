"""One connection on a unix socket, with exact half-closes and no byte lost when a reader is cancelled."""

import asyncio
import select
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.errors import UnreachableError

CHUNK = 256 * 1024
"""Bytes of the largest read; more than a unix socket's buffer holds by default."""

AHEAD = 64 * 1024
"""Bytes that are read ahead of their use, where the only question is whether the peer is still there."""


class Wire:
    """A connected, non-blocking socket and what was read from it and not used. One task reads, one writes."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self.unused = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    async def fill(self) -> bool:
        """Read more behind what is unused; return False where the peer has closed its side."""
        received = await self._receive()
        self.unused += received
        return bool(received)

    async def read(self) -> bytes:
        """Return what is unused, or else the next bytes; empty where the peer has closed its side."""
        if self.unused:
            received = bytes(self.unused)
            self.unused.clear()
            return received
        return await self._receive()

    def unread(self, content: bytes) -> None:
        """Put bytes back, to be read first."""
        self.unused[:0] = content

    async def _receive(self) -> bytes:
        # The socket is read by this task itself, never by a callback: what was received cannot be lost with it.
        await asyncio.sleep(0)  # two ends that are always ready leave others their turn
        while True:
            try:
                return self._socket.recv(CHUNK)
            except BlockingIOError:
                await readable(self._socket)

    async def write(self, content: bytes) -> None:
        """Send everything. Raises OSError where the peer is gone."""
        loop = asyncio.get_running_loop()
        left = memoryview(content)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await _when(self._socket, loop.add_writer, loop.remove_writer)

    def finish(self) -> None:
        """Close this side of the connection: the peer reads an end, and may still send."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone already, which whoever reads or writes next is told
            return

    @property
    def gone(self) -> bool:
        """Whether the peer has closed both sides, so that nobody will read what is sent."""
        poller = select.poll()
        poller.register(self._socket, 0)  # POLLHUP needs no asking
        return bool(poller.poll(0))


async def readable(one: socket.socket) -> None:
    """Wait until there is something to be read, or somebody to be accepted."""
    loop = asyncio.get_running_loop()
    await _when(one, loop.add_reader, loop.remove_reader)


async def _when(
    one: socket.socket,
    add: Callable[[int, Callable[[asyncio.Future[None]], None], asyncio.Future[None]], None],
    remove: Callable[[int], bool],
) -> None:
    ready = asyncio.get_running_loop().create_future()
    number = one.fileno()
    add(number, _wake, ready)
    try:
        await ready
    finally:
        remove(number)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def connected(path: Path) -> Wire:
    """Connect to the unix socket `path`; raise UnreachableError where nobody accepts."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, str(path))
    except OSError as error:
        connection.close()
        msg = f"podman does not answer on {path}: {error.strerror or error}"
        raise UnreachableError(msg) from error
    except BaseException:
        connection.close()
        raise
    return Wire(connection)
