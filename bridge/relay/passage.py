"""One request that podman answers: both directions at once, byte by byte, and either end may leave at any time."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from bridge.errors import InvalidError, PodmanError, UnreachableError
from bridge.relay.bodies import Body, Endless
from bridge.relay.exchange import FROM_CLIENT, Exchange, take
from bridge.relay.heads import Answer, RequestError, read_head
from bridge.relay.wire import AHEAD, Wire

_LINGER = 1.0
"""Seconds that podman gets to take the rest of a request that it has answered already."""

_SILENCE = 120.0
"""Seconds that a client may leave between two parts of a request's body."""

_SILENT = "podman closed the connection without an answer"

_RAW = frozenset({"application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"})
"""Content types of answers without a length after which the connection is a pipe to a process."""


class Passage:
    """The way of one exchange to podman and back."""

    def __init__(self, exchange: Exchange, podman: Wire, *, tunnels: bool) -> None:
        self.client = exchange.client
        self.podman = podman
        self.method = exchange.request.method
        self._exchange = exchange
        self._tunnels = tunnels
        self._sent = asyncio.Event()

    async def run(self, deliver: "Deliver") -> bool:
        """Relay the exchange, its final answer by `deliver`; say whether the client may send another request.

        Raises groups of OSError, where an end left before it was over, of InvalidError, where the client's
        body cannot be followed, and of PodmanError, where podman gave no answer.
        """
        async with asyncio.TaskGroup() as group:
            upward = group.create_task(self._upward())
            answer = await self._final_answer()
            self._exchange.answered = True
            if self._is_tunnel(answer):
                self._exchange.is_tunnel = True
                await self._tunnel(group, upward, answer)
                return False
            await deliver(self, answer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    await self._sent.wait()
            upward.cancel()
        request, body = self._exchange.request, self._exchange.body
        framed = not isinstance(answer.body(self.method), Endless)
        return request.persists and answer.persists and framed and body.done

    async def _upward(self) -> None:
        """Send the request; then look whether the client is still there, and read ahead what it sends."""
        try:
            await self._send()
        finally:
            self._sent.set()
        while (room := AHEAD - len(self.client.unused)) > 0:
            if not await self.client.fill(room):
                self._end_upward()
                return

    async def _send(self) -> None:
        content, body = self._exchange.request.raw, self._exchange.body
        while content:
            try:
                await self.podman.write(content)
            except OSError:  # podman wants no more; it may have answered, which is still to be read
                return
            content = b"" if body.done else await self._next(body)

    async def _next(self, body: Body) -> bytes:
        """Return the next bytes of the request's body."""
        try:
            async with asyncio.timeout(_SILENCE):
                return await take(self.client, body, FROM_CLIENT)
        except TimeoutError as error:
            raise RequestError(408, f"nothing came of the body for {_SILENCE:g} seconds") from error

    def _end_upward(self) -> None:
        """Hand the client's end on to podman: half of the connection, or all of it."""
        if self.client.gone:
            msg = "the client has left"
            raise ConnectionAbortedError(msg)
        self.podman.finish()

    async def _final_answer(self) -> Answer:
        while True:
            answer = await self._answer()
            if not answer.interim:
                return answer
            await self.client.write(answer.raw)

    async def _answer(self) -> Answer:
        try:
            raw = await read_head(self.podman)
            if raw is not None:
                return Answer.parse(raw)
        except OSError as error:
            raise UnreachableError(_SILENT) from error
        except InvalidError as error:
            raise PodmanError(str(error)) from error
        raise UnreachableError(_SILENT)

    def _is_tunnel(self, answer: Answer) -> bool:
        """Say whether the connection is a pipe from here on. Without leave for that no byte more goes to podman."""
        upgraded = answer.status == 101
        if upgraded and not self._tunnels:
            msg = "podman switched protocols without being asked"
            raise ConnectionAbortedError(msg)
        raw = any(value in _RAW for value in answer.values("content-type"))
        return upgraded or (self._tunnels and raw and isinstance(answer.body(self.method), Endless))

    async def _tunnel(self, group: asyncio.TaskGroup, upward: asyncio.Task[None], answer: Answer) -> None:
        await self._sent.wait()
        upward.cancel()
        await asyncio.wait({upward})
        await self.client.write(answer.raw)
        to_process = group.create_task(self._to_process())
        await _copy(self.podman, self.client)
        self.client.finish()
        if self.podman.gone:
            to_process.cancel()

    async def _to_process(self) -> None:
        await _copy(self.client, self.podman)
        self._end_upward()


async def _copy(source: Wire, target: Wire) -> None:
    while content := await source.read():
        await target.write(content)


Deliver = Callable[[Passage, Answer], Awaitable[None]]
"""Brings podman's answer to the client: as it is, or with what podbridge has to say in it."""


async def as_it_is(passage: Passage, answer: Answer) -> None:
    """Deliver an answer byte by byte."""
    body = answer.body(passage.method)
    await passage.client.write(answer.raw)
    while not body.done:
        try:
            content = await take(passage.podman, body)
        except ConnectionAbortedError:
            if isinstance(body, Endless):
                return
            raise
        await passage.client.write(content)
