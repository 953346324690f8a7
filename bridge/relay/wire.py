"""One connection on a unix socket, with exact half-closes and no byte lost when a reader is cancelled."""

import asyncio
import contextlib
import select
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.errors import UnreachableError
from bridge.ready import readable, writable

CHUNK = 256 * 1024
"""Bytes of the largest read; more than a unix socket's buffer holds by default."""

_LINGER = 1.0
"""Seconds in which a client that is refused may go on sending, unread."""

AHEAD = 16 * 1024
"""Bytes that are read ahead of their use, if the only question is whether the peer is still there."""


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

    async def fill(self, most: int = CHUNK) -> bool:
        """Read up to `most` bytes more behind what is unused; return False if the peer has closed its side."""
        received = await self._receive(most)
        self.unused += received
        return bool(received)

    async def read(self, most: int = CHUNK) -> bytes:
        """Return what is unused, or else the next bytes, at most so many; empty where the peer has closed its side."""
        if self.unused:
            received = bytes(self.unused)
            self.unused.clear()
            return received
        return await self._receive(most)

    def unread(self, content: bytes) -> None:
        """Put bytes back, to be read first."""
        self.unused[:0] = content

    async def _receive(self, most: int = CHUNK) -> bytes:
        # The socket is read by this task itself, never by a callback: what was received cannot be lost with it.
        await asyncio.sleep(0)  # two ends that are always ready leave others their turn
        while True:
            try:
                return self._socket.recv(most)
            except BlockingIOError:
                await readable(self._socket)

    async def write(self, content: bytes) -> None:
        """Send everything. Raises OSError where the peer is gone."""
        left = memoryview(content)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await writable(self._socket)

    def send_at_once(self, content: bytes) -> None:
        """Send what the kernel takes at once: last words, which are short."""
        with contextlib.suppress(OSError):
            self._socket.send(content)

    def finish(self) -> None:
        """Close this side of the connection: the peer reads an end, and may still send."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone already, which whoever reads or writes next is told
            return

    async def end(self) -> None:
        """Close this side, and drop for a moment what still comes: a close before that would take the last answer."""
        self.finish()
        self.unused.clear()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER):
                while await self._receive():
                    pass

    @property
    def gone(self) -> bool:
        """Whether the peer has closed both sides, so that nobody will read what is sent."""
        poller = select.poll()
        poller.register(self._socket, 0)  # POLLHUP needs no asking
        return bool(poller.poll(0))


async def connected(path: Path) -> Wire:
    """Connect to the unix socket `path`; raise UnreachableError if it does not accept, or nothing can be opened."""
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, str(path))
        except OSError as error:
            msg = f"podman does not answer on {path}: {error.strerror or error}"
            raise UnreachableError(msg) from error
        stack.pop_all()
    return Wire(connection)
