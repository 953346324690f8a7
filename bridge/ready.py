"""Waiting until a socket is ready, with nothing read, sent or accepted by the event loop itself."""

import asyncio
import socket
from collections.abc import Callable

_Ready = asyncio.Future[None]


async def readable(one: socket.socket) -> None:
    """Wait until there is something to be read, or a connection to be accepted."""
    loop = asyncio.get_running_loop()
    await _when(one, loop.add_reader, loop.remove_reader)


async def writable(one: socket.socket) -> None:
    """Wait until something can be sent."""
    loop = asyncio.get_running_loop()
    await _when(one, loop.add_writer, loop.remove_writer)


async def _when(
    one: socket.socket, add: Callable[[int, Callable[[_Ready], None], _Ready], None], remove: Callable[[int], bool]
) -> None:
    ready = asyncio.get_running_loop().create_future()
    number = one.fileno()
    add(number, _wake, ready)
    try:
        await ready
    finally:
        remove(number)


def _wake(ready: _Ready) -> None:
    if not ready.done():
        ready.set_result(None)
