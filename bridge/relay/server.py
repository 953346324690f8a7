"""Listening on the api socket: for each request the decision whose it is, for each connection an orderly end."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec

from bridge.config import ApiConfig, Profile
from bridge.entrance import Entrance, Guest
from bridge.errors import BridgeError, BusyError, InvalidError, UnreachableError
from bridge.fence import Fence
from bridge.limits import Held, Limits
from bridge.listening import DRAIN
from bridge.places import Places
from bridge.refusing import unavailable
from bridge.relay.desk import Desk
from bridge.relay.exchange import Exchange, Problem
from bridge.relay.floor import Floor
from bridge.relay.heads import Request, RequestError, read_head
from bridge.relay.passage import Deliver, Passage, as_it_is
from bridge.relay.profiles import covers, refusal, required
from bridge.relay.wire import AHEAD, Wire, connected

log = logging.getLogger(__name__)

_LARGE = 32 * 1024
"""Bytes of a head beyond which it counts as held for as long as its request takes, not only until it is complete."""

_NO_REQUEST = "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n"

_FULL = unavailable(
    msgspec.json.encode(
        Problem("service unavailable", "too many clients are connected to podbridge; try again soon", 503)
    )
)


class Relay:
    """Serves clients of the api socket with podman's answers, and with those of the desk."""

    def __init__(self, podman: Path, settings: ApiConfig, desk: Desk, limits: Limits) -> None:
        self.limits = limits
        self._held = Held(limits.held)
        self._endless = Places(limits.connections // 2, "streams")
        self._long = Places(limits.connections // 4, "long requests")
        self._podman = podman
        self._profile = settings.profile
        self._desk = desk
        self._floor = None if settings.floor is None else Floor(settings.floor)
        self._under_way: dict[asyncio.Task[None] | None, Exchange] = {}
        self._ending = False
        self._fence = Fence()

    async def serve(self, guest: Guest, was_used: Callable[[Guest], None]) -> None:
        """Serve one client until it leaves, or until what it sends cannot be followed any more."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        with Wire(guest.socket) as client:

            def leave(answer: bytes) -> None:
                client.send_at_once(answer)
                task.cancel()

            guest.is_idle, guest.leave = (lambda: task not in self._under_way), leave
            try:
                while not self._ending and await self._serve_next(client, guest.user):
                    was_used(guest)
            except* (OSError, BridgeError) as errors:
                log.debug("connection of the api socket ended error=%r", _first(errors))

    async def _serve_next(self, client: Wire, user: int | None) -> bool:
        try:
            raw = await self._head(client)
            if raw is None:
                return False
            exchange = Exchange(client, Request.parse(raw))
            with self._counted(exchange), self._holding(raw):
                return await self._finished(exchange, user)
        except (InvalidError, BusyError) as error:
            await _refuse(client, error)
            return False

    async def _head(self, client: Wire) -> bytes | None:
        """Wait for a request, and return its head; None if none comes."""
        try:
            async with asyncio.timeout(self.limits.idle_seconds):
                if not client.unused and not await client.fill(AHEAD):
                    return None
        except TimeoutError:
            return None
        try:
            async with asyncio.timeout(self.limits.head_seconds):
                return await read_head(client, self._held)
        except TimeoutError as error:
            msg = f"the request's head was not complete within {self.limits.head_seconds:g} seconds"
            raise RequestError(408, msg) from error

    @contextlib.contextmanager
    def _holding(self, raw: bytes) -> Iterator[None]:
        """Count a large head, which is held twice, while the block runs; raise BusyError if that is too much."""
        size = 2 * len(raw) if len(raw) > _LARGE else 0
        self._held.change(size)
        try:
            if size and self._held.is_full:
                msg = "requests with large heads are under way; try again soon"
                raise BusyError(msg)
            yield
        finally:
            self._held.change(-size)

    def _place(self, exchange: Exchange, user: int | None) -> contextlib.AbstractContextManager[None]:
        """Have a place among the requests of its kind; a short one needs none, so that it is always answered."""
        if exchange.call.follows:
            return self._endless.taken(user)
        return self._long.taken(user) if exchange.lasts else contextlib.nullcontext()

    async def _finished(self, exchange: Exchange, user: int | None) -> bool:
        """Have a request answered; say whether the client may send another one."""
        try:
            with self._fence.around("a request to the api socket"), self._place(exchange, user):
                return await self._answer(exchange)
        except* BridgeError as errors:
            if exchange.answered:
                raise
            await exchange.refuse(*_problem(_first(errors)))
        return await exchange.finish()

    @contextlib.contextmanager
    def _counted(self, exchange: Exchange) -> Iterator[None]:
        """Have an exchange known as under way while the block runs, in the task of its connection."""
        task = asyncio.current_task()
        self._under_way[task] = exchange
        try:
            yield
        finally:
            del self._under_way[task]

    async def drain(self, connections: Collection[asyncio.Task[None]], seconds: float) -> None:
        """Give what is under way so many seconds to end, and end everything.

        What waits for a request, and what has no end of its own, is ended at once.
        """
        self._ending = True
        answering = {task for task in connections if (one := self._under_way.get(task)) and not one.endless}
        try:
            for task in set(connections) - answering:
                task.cancel()
            if answering:
                await asyncio.wait(answering, timeout=seconds)
        finally:
            for task in answering:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def _answer(self, exchange: Exchange) -> bool:
        """Let the desk answer, or podman, or refuse; say whether the client may send another request."""
        if await self._desk.answer(exchange, self._profile):
            return await exchange.finish()
        needed = required(exchange.call)
        if not covers(self._profile, needed):
            await exchange.refuse(403, *refusal(exchange.call, self._profile, needed))
            return await exchange.finish()
        with await connected(self._podman) as podman:
            passage = Passage(exchange, podman, tunnels=self._profile is Profile.FULL)
            persists = await passage.run(self._deliverer(exchange))
        return await exchange.finish(persists=persists)

    def _deliverer(self, exchange: Exchange) -> Deliver:
        path, method = exchange.call.path, exchange.request.method
        if self._floor is not None and path in ("/_ping", "/version"):
            return self._floor
        if path == "/events" and method == "GET":
            return self._desk.merged(exchange.call)
        return as_it_is


async def _refuse(client: Wire, error: InvalidError | BusyError) -> None:
    """Answer what is no request, or is none that can be taken."""
    status, cause, message = _problem(error)
    content = msgspec.json.encode(Problem(cause, message, status))
    again = "Retry-After: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = _NO_REQUEST % (status, HTTPStatus(status).phrase, len(content), again)
    await client.write(head.encode() + content)
    await client.end()


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _problem(error: BaseException) -> tuple[int, str, str]:
    match error:
        case UnreachableError():
            return 503, "podman is away", str(error)
        case BusyError():
            return 503, "service unavailable", str(error)
        case RequestError():
            return error.status, HTTPStatus(error.status).phrase.lower(), str(error)
        case InvalidError():
            return 400, "bad request", str(error)
        case _:
            return 500, type(error).__name__.removesuffix("Error"), str(error)


@contextlib.asynccontextmanager
async def serving(relay: Relay, listener: socket.socket, patience: float = DRAIN) -> AsyncIterator[None]:
    """Accept clients on `listener` while the block runs; then close it, and drain for `patience` seconds."""
    entrance = Entrance(listener, "api", Places(relay.limits.connections, "connections"), _FULL)

    async def serve(guest: Guest) -> None:
        await relay.serve(guest, entrance.was_used)

    try:
        async with entrance.open(serve):
            yield
    finally:
        await relay.drain(tuple(entrance.connections), patience)
