"""Accepting connections from a socket that other processes accept from as well, now or later."""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator

from bridge.errors import UnforeseenError
from bridge.fence import Fence
from bridge.registry.connection import REFUSAL, Listener
from bridge.registry.tls import Encrypted

log = logging.getLogger(__name__)

_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE = 1.0
"""Seconds until the next try where the process, or the machine, has no room for one more connection."""


@contextlib.asynccontextmanager
async def accepting(listener: socket.socket, server: Listener, tls: ssl.SSLContext | None) -> AsyncIterator["Acceptor"]:
    """Accept while the block runs; then what already waits, and no more: the listener is closed.

    Who is paused at the end leaves what waits to whoever accepts from the socket next.
    """
    acceptor = Acceptor(listener, server, tls)
    acceptor.resume()
    try:
        yield acceptor
    finally:
        await acceptor.stop()


class Acceptor:
    """Takes one connection at a time, so that of several processes the one with the least to do takes most.

    asyncio's own server takes all that wait, which would be all of a burst.
    """

    def __init__(self, listener: socket.socket, server: Listener, tls: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._server = server
        self._tls = tls
        self._fence = Fence()
        self._opening: set[asyncio.Task[None]] = set()
        self._paused = False
        self._again: asyncio.TimerHandle | None = None

    @property
    def opening(self) -> int:
        """How many connections are accepted, and have no protocol yet: their TLS handshake is to come, or under way."""
        return len(self._opening)

    def resume(self) -> None:
        """Accept. Idempotent; of no effect once it has stopped."""
        if self._listener.fileno() < 0:
            return
        self.pause()  # no timer of before is left
        self._paused = False
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def pause(self) -> None:
        """Accept nobody from now on, until `resume`. Idempotent."""
        if self._listener.fileno() < 0:
            return
        self._paused = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._loop.remove_reader(self._listener.fileno())

    async def stop(self) -> None:
        """Accept what already waits, unless paused, and close the listener."""
        takes_the_rest = not self._paused
        self.pause()
        while takes_the_rest and self._accept():
            pass
        self._listener.close()
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self) -> bool:
        """Take one connection; say whether there was one."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _FULL and self._again is None:
                log.error("no room for more connections error=%r", error.strerror)  # noqa: TRY400
                self._loop.remove_reader(self._listener.fileno())
                self._again = self._loop.call_later(_PAUSE, self.resume)
            return False  # else another process was quicker, or the client has gone already
        connection.setblocking(False)
        if self._server.is_full(self.opening):
            self._turn_away(connection)
            return True
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        self._server.heap.has(self._server.meter.connections + self.opening)
        task.add_done_callback(self._opened)
        return True

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._server.heap.has(self._server.meter.connections + self.opening)

    def _turn_away(self, connection: socket.socket) -> None:
        """Close a connection that is one too many, and say so where that takes no handshake."""
        with connection, contextlib.suppress(OSError):
            if self._tls is None:
                connection.send(REFUSAL)

    async def _open(self, connection: socket.socket) -> None:
        try:
            with self._fence.around("a new connection"):
                if self._tls is None:
                    await self._loop.connect_accepted_socket(self._server, connection)
                    return
                async with asyncio.timeout(self._server.limits.handshake_seconds):
                    await self._encrypt(connection, self._tls)
        except (OSError, UnforeseenError):  # an SSLError is an OSError: a failed handshake is no news
            connection.close()

    async def _encrypt(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        """Make a handshake as soon as the client begins with it: until then the connection costs next to nothing."""
        await self._begun(connection)
        if not connection.recv(1, socket.MSG_PEEK):
            connection.close()
            return
        done = self._loop.create_future()
        protocol = Encrypted(self._loop, self._server(), tls, done, server_side=True)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection)
        try:
            await done
        except BaseException:
            transport.abort()
            raise

    async def _begun(self, connection: socket.socket) -> None:
        begun = asyncio.Event()
        self._loop.add_reader(connection.fileno(), begun.set)
        try:
            await begun.wait()
        finally:
            self._loop.remove_reader(connection.fileno())
