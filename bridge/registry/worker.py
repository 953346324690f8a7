"""One of the processes that answer pulls: `python -m bridge.registry.worker`, started by `workers.py` only.

It is told on standard input what to serve, and when to pause. SIGTERM ends it in order; the end of
standard input, which is the end of the parent, ends it at once.
"""

import asyncio
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

from bridge import logs
from bridge.registry import messages
from bridge.registry.accepting import Acceptor
from bridge.registry.connection import Listener
from bridge.registry.server import opened

_EVERY = 1.0
"""Seconds after a change until the parent is told."""

_UNREAD = 1024 * 1024
"""Bytes that may wait for a parent that does not read; log lines beyond that are lost."""


class _Tether(asyncio.Protocol):
    """Standard input: what the parent asks for; when it ends the parent is gone."""

    def __init__(self, obey: Callable[[messages.Request], None]) -> None:
        self._obey = obey
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(messages.read_request(line))

    def connection_lost(self, _: Exception | None) -> None:
        os._exit(1)


class _Parent(logging.Handler):
    """The way to the parent, for messages and for log records."""

    def __init__(self, pipe: asyncio.WriteTransport) -> None:
        super().__init__()
        self._pipe = pipe

    def tell(self, message: messages.Message) -> None:
        """Send a message."""
        self._pipe.write(messages.write(message))

    def tell_damaged(self, digest: str) -> None:
        """Send the digest of a blob whose bytes are not its own."""
        self.tell(messages.Damaged(digest))

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on; the parent's log puts the time to it."""
        if self._pipe.get_write_buffer_size() < _UNREAD:
            text = self.format(record)[: messages.LONGEST]
            self.tell(messages.Line(record.levelno, record.name, text, *logs.parted(record)))


class _Reports:
    """Tells the parent what was served, a second after that changed."""

    def __init__(self, server: Listener, parent: _Parent) -> None:
        self._server = server
        self._parent = parent
        self._timer: asyncio.TimerHandle | None = None
        server.meter.changed = self._arm

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self.tell)

    def tell(self) -> None:
        """Tell the parent now."""
        self._timer = None
        self._parent.tell(messages.Report(self._server.traffic))


def _obey(acceptor: Acceptor, server: Listener, parent: _Parent, request: messages.Request) -> None:
    match request:
        case messages.Pause(number):
            acceptor.pause()
            parent.tell(messages.Paused(number, acceptor.opening + server.meter.connections))
        case messages.Resume():
            acceptor.resume()
        case messages.Ping():
            parent.tell(messages.Pong())


async def _work(order: messages.Order) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    parent = _Parent(pipe)
    parent.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[parent])
    listener = socket.socket(fileno=order.listener)
    serving = opened(order.tree, listener, order.registry, order.encodings, parent.tell_damaged)
    async with serving as (server, acceptor):
        reports = _Reports(server, parent)
        obey = functools.partial(_obey, acceptor, server, parent)
        await loop.connect_read_pipe(lambda: _Tether(obey), sys.stdin)
        parent.tell(messages.Accepting())
        await stop.wait()
    reports.tell()
    pipe.close()
    while pipe.get_write_buffer_size():  # noqa: ASYNC110 # a pipe has no event for it
        await asyncio.sleep(0.01)


def main() -> int:
    """Serve what standard input asks for until SIGTERM."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's, or a reload: the parent's to act on
    if line := sys.stdin.buffer.readline():
        asyncio.run(_work(messages.read_order(line)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
