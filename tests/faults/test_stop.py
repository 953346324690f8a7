"""However an export or the service ends, no process and no staging stays; and there is one publisher only."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import LockedError, PodmanError
from bridge.podman import process
from bridge.tree.disk import Lock
from tests.double.gates import DEADLINE, eventually
from tests.faults.world import World


@pytest.fixture(autouse=True)
def _only_exports(world: World) -> None:
    """Have podbridge start no process but those of exports."""
    world.settings["encodings"] = {"space": "0MB"}


def processes(world: World) -> list[int]:
    """Return every process that has the world's directory among its words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(world.directory).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("deaf", [False, True])
async def test_stopping_while_a_save_hangs_leaves_no_process_and_no_staging(world: World, deaf: bool) -> None:
    held = world.double.gate("save")
    async with world.podman():
        async with world.service():
            world.double.faults.add("save", "hold", after=1, deaf=deaf, gate=str(held.path))
            made = world.double.build("localhost/app:1", "one", "two")
            await held.reached()
            assert len(processes(world)) == 1
        assert processes(world) == []
        assert world.staged() == []
        assert world.shown() == {}
        async with world.service():
            await world.shows({"app:1": made.id})


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGTERM, "left out layer"), (signal.SIGKILL, "podman image save")],
    ids=["TERM", "KILL"],
)
async def test_a_save_that_somebody_ends_is_not_published_though_it_may_exit_with_0(
    world: World, number: signal.Signals, words: str
) -> None:
    held, again = world.double.gate("save"), world.double.gate("again")
    async with world.podman(), world.service():
        for gate in (held, again):
            world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(gate.path))
        made = world.double.build("localhost/app:1", "one", "two")
        await held.reached()
        (pid,) = processes(world)
        os.kill(pid, number)
        assert words in await world.failed("app:1")
        await again.reached()
        assert (len(world.staged()), world.shown()) == (1, {}), "staging is that of the second try alone"
        again.open()
        await world.shows({"app:1": made.id})


async def test_sigterm_ends_the_command_in_order_while_a_save_hangs(world: World) -> None:
    held = world.double.gate("save")
    async with world.podman():
        world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(held.path))
        world.double.build("localhost/app:1", "one", "two")
        service = await world.start("serve")
        await held.reached()
        service.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(service.communicate(), DEADLINE)
    assert service.returncode == 0
    assert b"Traceback" not in errors
    assert processes(world) == []
    assert world.staged() == []
    assert not world.control.exists()


async def test_a_save_without_progress_is_killed_and_says_so(world: World, tmp_path: Path) -> None:
    held = world.double.gate("save")
    world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(held.path))
    made = world.double.build("localhost/app:1", "one", "two")
    words = ["image", "save", "--format=oci-dir", "--uncompressed", f"--output={tmp_path / 'o'}", made.id]
    ticks = itertools.count()
    with pytest.raises(PodmanError, match=r"made no progress for 0\.5 s and was killed"):
        await process.run(
            [*world.double.command, *words],
            environment={"TMPDIR": str(tmp_path)},
            progress=lambda: held.arrivals.exists() or next(ticks),
            stall=0.5,
        )
    assert held.arrivals.exists()
    assert processes(world) == []


async def test_a_save_that_makes_progress_is_not_killed_however_long_it_takes(world: World, tmp_path: Path) -> None:
    held = world.double.gate("save")
    world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(held.path))
    made = world.double.build("localhost/app:1", "one", "two")
    words = ["image", "save", "--format=oci-dir", "--uncompressed", f"--output={tmp_path / 'o'}", made.id]
    asyncio.get_running_loop().call_later(2.0, held.open)
    ticks = itertools.count()
    await process.run(
        [*world.double.command, *words],
        environment={"TMPDIR": str(tmp_path)},
        progress=lambda: next(ticks),
        stall=0.6,
    )
    assert (tmp_path / "o" / "index.json").exists()


_SPOOLING = """
import os, sys, time
directory, seconds = sys.argv[1], float(sys.argv[2])
with open(directory + "/spool", "wb", buffering=0) as spool:
    os.unlink(spool.name)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        spool.write(b"layer")
        time.sleep(0.1)
    time.sleep(seconds * 4 if sys.argv[3:] else 0)
"""
"""A save that writes into a file without a name, as podman 5.8.6 spools; with one more word it then stands still."""


async def test_a_save_that_spools_into_a_file_without_a_name_is_not_killed(tmp_path: Path) -> None:
    spooling = sys.executable, "-Ic", _SPOOLING, str(tmp_path), "2"
    await process.run(spooling, progress=lambda: None, stall=0.9)
    await process.run(("sh", "-c", '"$@" & wait', "sh", *spooling), progress=lambda: None, stall=0.9)


async def test_a_save_that_no_longer_spools_is_killed(tmp_path: Path) -> None:
    spooling = sys.executable, "-Ic", _SPOOLING, str(tmp_path), "1", "and then stands still"
    with pytest.raises(PodmanError, match=r"made no progress for 0\.9 s"):
        await process.run(spooling, progress=lambda: None, stall=0.9)


async def test_a_save_whose_podbridge_was_killed_does_not_disturb_the_next_start(world: World) -> None:
    churn = world.double.gate("churn")
    async with world.podman():
        world.double.faults.add("save", "churn", after=1, gate=str(churn.path), seconds=5)
        made = world.double.build("localhost/app:1", "one", "two")
        service = await world.start("serve")
        await churn.reached()
        service.kill()
        await service.communicate()
        async with world.service():
            await world.shows({"app:1": made.id})
            await eventually(lambda: processes(world) == [])
            await eventually(lambda: world.staged() == [])
    assert (await world.command("verify")).output == "the tree is whole\n"


@pytest.mark.parametrize("verb", ["serve", "sync", "gc"])
async def test_a_second_publisher_is_refused_with_the_pid_of_the_first(world: World, verb: str) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        first = os.getpid()
        world.settings["control"] = {"socket": str(world.directory / "other")}
        answer = await world.command(verb, *([f"--tree={world.tree}"] if verb == "gc" else []))
        assert answer.code == 1
        assert answer.errors.count("\n") == 1
        assert f"another podbridge, pid {first}, publishes into {world.tree}" in answer.errors
        assert world.shown() == {"app:1": made.id}


async def test_the_lock_is_held_until_the_last_write_is_done(world: World) -> None:
    async with world.podman():
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(world.service())
            made = world.double.build("localhost/app:1")
            await eventually(lambda: b"app" in (world.tree / "repositories/_catalog.json").read_bytes())
            with slow_reading(world.tree / "repositories/app/_tags.json"):
                world.double.tag(made.id, "localhost/app:2")
                await world.shows({"app:1": made.id, "app:2": made.id})
                stopping = asyncio.create_task(stack.aclose())
                await asyncio.wait({stopping}, timeout=0.5)
                with pytest.raises(LockedError):
                    Lock(world.tree / "lock").acquire()
            await stopping
        Lock(world.tree / "lock").acquire().release()


@contextlib.contextmanager
def slow_reading(path: Path) -> Iterator[None]:
    """Have whoever reads a file wait until the block ends."""
    path.unlink()
    os.mkfifo(path)
    try:
        yield
    finally:
        writing = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        path.unlink()  # for who has not opened it yet: there is nobody any more who would write into it
        os.close(writing)
