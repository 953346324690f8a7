"""The way in to every socket of the service: accepts within limits, refuses in the API's own form, never gives up.

One connection is accepted at a time, and its place is known before anything is made for it: asyncio's own server
accepts all that wait, and a burst would take every descriptor before the first of them could be refused.
"""

import asyncio
import contextlib
import logging
import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from bridge.fence import Fence
from bridge.heap import Heap
from bridge.places import Places, user_of
from bridge.ready import readable

log = logging.getLogger(__name__)

_PAUSE = 0.2
"""Seconds until the next try if there are no descriptors, or no memory, for one more connection."""

_QUIET = 60.0
"""Seconds without a refusal after which the next one is told again."""

_LINGER = 1.0
"""Seconds in which a client that is refused may go on sending, unread: a close before that would take the answer."""

_UNREAD = 64 * 1024
"""Bytes of one read of what is dropped."""

_LINGERING = 8
"""Refused clients at a time that get these seconds; each has a descriptor."""


@dataclass(eq=False, slots=True)
class Guest:
    """A client that was let in. It is made to leave only while it `is_idle`: between two requests, or before one."""

    socket: socket.socket
    user: int | None
    is_idle: Callable[[], bool] = lambda: False
    leave: Callable[[bytes], None] = lambda _: None
    """Sends the client this last answer, and ends its connection."""


Serve = Callable[[Guest], Awaitable[None]]
"""Serves a client to the end of its connection; sets `is_idle` and `leave`. The socket is closed after it."""


class Burst:
    """Something that may happen a thousand times a second, and is told once: again only after a minute without it."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._last = -math.inf

    def tell(self, pairs: str, *values: object) -> None:
        """Tell of it, unless it belongs to what was told."""
        before, self._last = self._last, time.monotonic()
        if self._last - before > _QUIET:
            log.warning(self._message + " " + pairs, *values)  # noqa: G003 - constant, both of them


class Entrance:
    """Accepts at one listening socket, and serves at most as many clients as there are `places`.

    A client for whose user there is none gets that of the same user's client that has been idle longest. If none is
    idle it is refused. Either way the one who has to go is sent `refusal`, a whole answer.
    """

    def __init__(self, listener: socket.socket, name: str, places: Places, refusal: bytes) -> None:
        self.connections: set[asyncio.Task[None]] = set()
        """One for each client that is served, and for each that was refused a moment ago."""
        self._listener = listener
        self._client = f"a client of socket {name}"
        self._fence = Fence()
        self._heap = Heap()
        self._places = places
        self._refusal = refusal
        self._guests: dict[Guest, asyncio.Task[None]] = {}
        """Every client that is served; the one whose last request is longest ago comes first."""
        self._lingering = 0
        self._refused = Burst(f"clients are turned away, too many are connected socket={name}")
        self._failed = Burst(f"cannot accept, will try again socket={name}")

    @contextlib.asynccontextmanager
    async def open(self, serve: Serve) -> AsyncIterator[None]:
        """Accept while the block runs, and serve each client in a task of `connections`; then close the listener."""
        self._listener.setblocking(False)
        accepting = asyncio.create_task(self._accept(serve))
        try:
            yield
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            self._listener.close()

    async def end(self) -> None:
        """End every connection at once. Call it when the entrance is closed."""
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    def was_used(self, guest: Guest) -> None:
        """Note that a client had a request answered just now."""
        if guest in self._guests:
            self._guests[guest] = self._guests.pop(guest)

    async def _accept(self, serve: Serve) -> None:
        while True:
            await readable(self._listener)
            try:
                connection, _ = self._listener.accept()  # by this task itself: what was accepted cannot be lost with it
            except BlockingIOError:
                continue
            except OSError as error:
                self._failed.tell("error=%r", error.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            with self._fence.within(self._client):
                await self._admit(connection, serve)
            await asyncio.sleep(0)  # its task has begun, and what was accepted before has had its turn

    async def _admit(self, connection: socket.socket, serve: Serve) -> None:
        connection.setblocking(False)
        guest = Guest(connection, user_of(connection))
        if await self._has_room(guest.user):
            self._guests[guest] = self._start(guest, self._serve(guest, serve))
            self._heap.has(len(self._guests))
        else:
            self._start(guest, self._turn_away(connection))

    async def _has_room(self, user: int | None) -> bool:
        """Say whether there is a place for one more client of a user, at the cost of an idle one of the same user."""
        if self._places.has_room(user):
            return True
        self._refused.tell("user=%s limit=%d", user, self._places.total)
        idle = next((guest for guest in self._guests if guest.user == user and guest.is_idle()), None)
        if idle is not None:
            task = self._guests[idle]
            idle.leave(self._refusal)
            await asyncio.wait({task}, timeout=_PAUSE)
        return self._places.has_room(user)

    def _start(self, guest: Guest, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.connections.add(task)
        task.add_done_callback(partial(self._forget, guest))
        return task

    def _forget(self, guest: Guest, task: asyncio.Task[None]) -> None:
        guest.socket.close()  # a task that was cancelled before its first step has not done so
        self.connections.discard(task)
        self._guests.pop(guest, None)
        self._heap.has(len(self._guests))

    async def _serve(self, guest: Guest, serve: Serve) -> None:
        with guest.socket, self._fence.within(self._client), self._places.taken(guest.user):
            await serve(guest)

    async def _turn_away(self, connection: socket.socket) -> None:
        """Answer a client that is one too many, and close its connection so that the answer arrives."""
        with connection, self._fence.within(self._client), contextlib.suppress(OSError, TimeoutError):
            connection.send(self._refusal)
            connection.shutdown(socket.SHUT_WR)
            if self._lingering >= _LINGERING:
                connection.recv(_UNREAD)  # what it has sent until now, or nothing
                return
            self._lingering += 1
            try:
                async with asyncio.timeout(_LINGER):
                    await _read_out(connection)
            finally:
                self._lingering -= 1


async def _read_out(connection: socket.socket) -> None:
    """Read, and drop, what a client sends, up to its end."""
    while True:
        await readable(connection)
        if not connection.recv(_UNREAD):
            return
