"""The place of one worker: one that dies in it, or does not answer any more, is replaced."""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

import msgspec

from bridge import logs
from bridge.errors import ListenError
from bridge.listening import DRAIN
from bridge.registry import messages
from bridge.registry.traffic import Traffic

log = logging.getLogger(__name__)

_SETTLED = 5.0
"""Seconds after which a worker that dies did not die at once."""

_LONGEST_PAUSE = 30.0
"""Seconds between two tries where workers die at once again and again."""

_ANSWER = 1.0
"""Seconds that a worker gets to say who is there; one that is slower may have clients."""

PULSE = 5.0
"""Seconds between two looks whether a worker still answers."""

SILENCE = 20.0
"""Seconds without any answer after which a worker counts as stopped: its event loop never waits that long by itself."""

_PATIENCE = DRAIN + 5.0
"""Seconds between SIGTERM and SIGKILL."""


class Place:
    """Runs one worker after the other, with the same order. `damaged` is told the digest of each damaged blob."""

    def __init__(self, order: messages.Order, damaged: Callable[[str], None] = lambda _digest: None) -> None:
        self._order = order
        self._damaged = damaged
        self._heard = 0.0
        self._process: Process | None = None
        self._running: asyncio.Task[None] | None = None
        self._accepting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_accepting = False
        self._asked = 0
        self._answered: asyncio.Future[int] | None = None
        self._ending = asyncio.Event()
        self._gone = Traffic()
        self._reported = Traffic()

    @property
    def traffic(self) -> Traffic:
        """What the workers of this place have served."""
        return self._gone + self._reported

    @property
    def pid(self) -> int | None:
        """The pid of the worker; None where there is none at the moment."""
        return None if self._process is None else self._process.pid

    async def open(self) -> None:
        """Return when the first worker accepts; raise ListenError where it ends before. Called once."""
        self._running = asyncio.create_task(self._run())
        await asyncio.shield(self._accepting)

    async def pause(self) -> bool:
        """Have the worker accept nobody until `resume`; say whether it has no client.

        One that does not answer may have some.
        """
        if not self._is_accepting:
            return False
        self._asked += 1
        self._answered = asyncio.get_running_loop().create_future()
        self._tell(messages.Pause(self._asked))
        try:
            return await asyncio.wait_for(self._answered, _ANSWER) == 0
        except TimeoutError:
            return False

    def resume(self) -> None:
        """Have the worker accept again. Idempotent."""
        if self._is_accepting:
            self._tell(messages.Resume())

    def _tell(self, request: messages.Request) -> None:
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018
        self._process.stdin.write(messages.write(request))

    async def close(self) -> None:
        """Have the worker end in order, by force where it does not. Idempotent."""
        self._ending.set()
        if self._process is not None:
            _signal(self._process, signal.SIGTERM)
        if self._running is None:
            return
        done, _ = await asyncio.wait({self._running}, timeout=_PATIENCE)
        if not done and self._process is not None:
            log.warning("registry worker did not end, killed pid=%d", self._process.pid)
            _signal(self._process, signal.SIGKILL)
        await self._running

    async def _run(self) -> None:
        """Keep a worker running until the place is closed."""
        deaths = 0
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            begun = loop.time()
            how = await self._work()
            if self._ending.is_set():
                break
            if not self._accepting.done():
                msg = f"a registry worker did not start: {how}"
                self._accepting.set_exception(ListenError(msg))
                return
            deaths = 1 if loop.time() - begun > _SETTLED else deaths + 1
            _say(deaths, how)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _pause(deaths))
        self._accepting.cancel()

    async def _work(self) -> str:
        """Run one worker to its end, and say how it ended."""
        try:
            process = await _start(self._order)
        except OSError as error:
            return f"cannot start {sys.executable}: {error.strerror}"
        self._process = process
        if self._ending.is_set():
            _signal(process, signal.SIGTERM)
        assert process.stdout is not None  # noqa: S101
        watching = asyncio.create_task(self._watch(process))
        try:
            async for line in process.stdout:
                with contextlib.suppress(msgspec.DecodeError):  # a line that was cut by the end
                    self._hear(messages.read(line))
        finally:
            watching.cancel()
        self._is_accepting = False
        code = await process.wait()
        self._process = None
        self._gone, self._reported = self.traffic.ended(), Traffic()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    async def _watch(self, process: Process) -> None:
        """Kill a worker that does not answer: one that is stopped, or hangs, holds clients that get no answer."""
        self._heard = time.monotonic()
        while True:
            await asyncio.sleep(PULSE)
            if not self._is_accepting:
                self._heard = time.monotonic()  # it is starting, for as long as that takes
            silent = time.monotonic() - self._heard
            if silent > SILENCE:
                log.warning("registry worker does not answer, killed pid=%d seconds=%.0f", process.pid, silent)
                _signal(process, signal.SIGKILL)
                return
            if self._is_accepting:
                self._tell(messages.Ping())

    def _hear(self, message: messages.Message) -> None:
        self._heard = time.monotonic()
        match message:
            case messages.Accepting():
                self._is_accepting = True
                if not self._accepting.done():
                    self._accepting.set_result(None)
            case messages.Line(level, logger, text, words, pairs):
                logging.getLogger(logger).log(level, text, extra={logs.PARTED: (words, pairs)})
            case messages.Paused(number, connections):
                if number == self._asked and self._answered is not None and not self._answered.done():
                    self._answered.set_result(connections)
            case messages.Report(traffic):
                self._reported = traffic
            case messages.Damaged(digest):
                self._damaged(digest)


async def _start(order: messages.Order) -> Process:
    """Start a worker: fresh, so that it holds no more than it needs, in a process group of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bridge.registry.worker"),
        stdin=PIPE,
        stdout=PIPE,
        pass_fds=(order.listener,),
        process_group=0,
        limit=messages.LONGEST * 8,
    )
    assert process.stdin is not None  # noqa: S101
    process.stdin.write(messages.write(order))
    return process


def _say(deaths: int, how: str) -> None:
    """Say that a worker died; no more than twice where they die at once again and again."""
    if deaths == 1:
        log.warning("registry worker died, replaced how=%r", how)
    else:
        level = logging.WARNING if deaths == 2 else logging.DEBUG
        log.log(level, "registry workers die at once, tried again with pauses how=%r", how)


def _pause(deaths: int) -> float:
    """Return the seconds until the next try: none at first, then ever more."""
    return 0.0 if deaths == 1 else min(_LONGEST_PAUSE, 2.0 ** (deaths - 2))


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
