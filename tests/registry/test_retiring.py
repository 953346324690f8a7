"""Workers that end because nobody asks: only where nobody is connected, and no request is lost."""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

import pytest

from bridge.oci import Digest
from bridge.registry import server, workers
from bridge.registry.workers import Workers
from bridge.service.idle import until_idle
from bridge.service.settings import Settings
from bridge.units import Seconds
from tests.double.gates import DEADLINE
from tests.registry.crews import settings, sockets
from tests.registry.trees import Shelf
from tests.registry.wires import Line, ask, dialled, until

LARGE = os.urandom(1 << 20) * 60
"""More than what a connection holds that nobody reads from."""
PULL = f"GET /v2/large/blobs/{Digest.of(LARGE)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
PATH = "/v2/app/manifests/1"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "tree")
    shelf.image("app:1", b"a layer")
    shelf.image("large:1", LARGE)
    return shelf


async def begun(line: Line) -> None:
    """Begin a pull, and read its head alone."""
    await line.send(PULL)
    await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), DEADLINE)


async def retired(crew: Workers) -> None:
    """Ask until the workers have retired: one that is gone by now may have been there a moment ago."""
    async with asyncio.timeout(DEADLINE):
        while not await crew.retire():
            pass


async def test_a_pull_that_nobody_was_told_of_yet_is_not_cut(shelf: Shelf) -> None:
    """The parent hears of a connection a second later: it asks, and does not go by that."""
    config = settings(shelf.root)
    async with workers.running(server.listen("127.0.0.1", 0), config) as crew:
        async with dialled(crew.address) as slow:
            await begun(slow)
            assert not await crew.retire()
            assert (await ask(crew.address, PATH)).status == 200, "others are served meanwhile"
            assert await slow.reader.readexactly(len(LARGE)) == LARGE
        await retired(crew)


async def test_what_is_asked_of_retired_workers_waits_for_those_who_come_next(shelf: Shelf) -> None:
    config, listener = settings(shelf.root), server.listen("127.0.0.1", 0)
    async with contextlib.AsyncExitStack() as stack:
        kept = stack.enter_context(listener.dup())  # as systemd keeps it
        async with workers.running(listener, config) as crew:
            await retired(crew)
            late = await stack.enter_async_context(dialled(crew.address))
            await late.send(PULL)
            processes = crew.processes
            await crew.reload(config)
            assert crew.processes == processes, "no new one takes it"
        async with workers.running(kept, config):
            assert (await late.answer()).body == LARGE


async def test_a_worker_that_does_not_answer_keeps_the_others_serving(shelf: Shelf) -> None:
    async with workers.running(server.listen("127.0.0.1", 0), settings(shelf.root)) as crew:
        stopped = crew.processes[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert not await crew.retire()
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert [(await ask(crew.address, PATH)).status for _ in range(20)] == [200] * 20
        await retired(crew)


async def test_a_worker_that_ends_already_answers_what_it_was_asked(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(shelf.root, workers=1)
    async with workers.running(server.listen("127.0.0.1", 0), config) as crew, dialled(crew.address) as slow:
        await begun(slow)
        (ending,) = crew.processes
        listening = sockets(ending)
        os.kill(ending, signal.SIGTERM)
        await until(lambda: sockets(ending) < listening)
        assert not await crew.retire()
        assert await slow.reader.readexactly(len(LARGE)) == LARGE
        await until(lambda: ending not in crew.processes and len(crew.processes) == 1)
        assert (await ask(crew.address, PATH)).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_an_idle_registry_waits_for_who_is_connected(shelf: Shelf) -> None:
    config = settings(shelf.root, idle_exit=Seconds.parse("0s"))
    async with workers.running(server.listen("127.0.0.1", 0), config) as crew:
        async with dialled(crew.address) as line:
            assert (await line.ask(PATH)).status == 200
            await until(lambda: crew.traffic.connections == 1)
            idle = asyncio.create_task(until_idle(Settings(config), crew))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(idle), 3)
            assert (await line.ask(PATH)).status == 200
        await asyncio.wait_for(idle, DEADLINE)
