"""Listening on the api socket: for each request the decision whose it is, for each connection an orderly end."""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

import msgspec

from bridge.config import ApiConfig, Profile
from bridge.errors import BridgeError, InvalidError, UnreachableError
from bridge.fence import Fence
from bridge.listening import DRAIN
from bridge.relay.desk import Desk
from bridge.relay.exchange import Exchange, Problem
from bridge.relay.floor import Floor
from bridge.relay.heads import Request, read_head
from bridge.relay.passage import Deliver, Passage, as_it_is
from bridge.relay.profiles import covers, refusal, required
from bridge.relay.wire import Wire, connected, readable

log = logging.getLogger(__name__)

_FULL_HANDS = 0.2
"""Seconds until the next try to accept a connection where there are no more descriptors."""


_NO_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
)


class Relay:
    """Serves clients of the api socket with podman's answers, and with those of the desk."""

    def __init__(self, podman: Path, settings: ApiConfig, desk: Desk) -> None:
        self._podman = podman
        self._profile = settings.profile
        self._desk = desk
        self._floor = None if settings.floor is None else Floor(settings.floor)
        self._under_way: dict[asyncio.Task[None] | None, Exchange] = {}
        self._ending = False
        self._fence = Fence()

    async def serve(self, connection: socket.socket) -> None:
        """Serve one client until it leaves, or until what it sends cannot be followed any more."""
        with Wire(connection) as client:
            try:
                while not self._ending and await self._serve_next(client):
                    pass
            except* (OSError, BridgeError) as errors:
                log.debug("connection of the api socket ended error=%r", _first(errors))

    async def _serve_next(self, client: Wire) -> bool:
        try:
            raw = await read_head(client)
            if raw is None:
                return False
            exchange = Exchange(client, Request.parse(raw))
        except InvalidError as error:
            problem = msgspec.json.encode(Problem("bad request", str(error), 400))
            await client.write(_NO_REQUEST % (len(problem), problem))
            return False
        with self._counted(exchange):
            try:
                with self._fence.around("a request to the api socket"):
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


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _problem(error: BaseException) -> tuple[int, str, str]:
    match error:
        case UnreachableError():
            return 503, "podman is away", str(error)
        case InvalidError():
            return 400, "bad request", str(error)
        case _:
            return 500, type(error).__name__.removesuffix("Error"), str(error)


@contextlib.asynccontextmanager
async def serving(relay: Relay, listener: socket.socket, patience: float = DRAIN) -> AsyncIterator[None]:
    """Accept clients on `listener` while the block runs; then close it, and drain for `patience` seconds."""
    listener.setblocking(False)
    connections: set[asyncio.Task[None]] = set()
    accepting = asyncio.create_task(_accept(relay, listener, connections))
    try:
        yield
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        listener.close()
        await relay.drain(tuple(connections), patience)


async def _accept(relay: Relay, listener: socket.socket, connections: set[asyncio.Task[None]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await readable(listener)
        try:
            connection, _ = listener.accept()  # by this task itself: who was accepted cannot be lost with it
        except BlockingIOError:
            continue
        except OSError as error:
            log.warning("cannot accept on the api socket, will try again error=%r", error.strerror)
            await asyncio.sleep(_FULL_HANDS)
            continue
        task = loop.create_task(relay.serve(connection))
        connections.add(task)
        task.add_done_callback(functools.partial(_forget, connections, connection))


def _forget(connections: set[asyncio.Task[None]], connection: socket.socket, task: asyncio.Task[None]) -> None:
    connection.close()  # a task that was cancelled before its first step has not done so
    connections.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a client of the api socket was dropped error=%r", error, exc_info=error)
