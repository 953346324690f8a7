"""A gate that cannot be read or started now lets nothing through, is asked again, and holds up nothing else."""

import asyncio
import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge import programs
from bridge.hooks.finding import Stage
from tests.chaos.shim import Shim
from tests.double.gates import DEADLINE, eventually
from tests.faults.world import World
from tests.hooks.shelf import Shelf
from tests.hooks.test_gates import is_in

HERE = Path(__file__).parents[2]

_LOOK = """
import os, resource, sys
from pathlib import Path
from bridge.hooks.finding import Stage, find
directories, leave = [Path(sys.argv[1])], int(sys.argv[2])
def look():
    try:
        return [str(hook.state) for hook in find(Stage.VERIFY, directories)]
    except OSError as error:
        return error.errno
look()
if leave >= 0:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.open("/", os.O_PATH))
    except OSError:
        for descriptor in taken[:leave]:
            os.close(descriptor)
print(look())
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A directory of hooks with a gate that has settings."""
    shelf = Shelf(tmp_path / "hooks.d")
    shelf.put(Stage.VERIFY, "10-scan", "exit 0")
    (shelf.directory / "10-scan.conf").write_text("A=1\n")
    return shelf.directory


def looked(directory: Path, environment: dict[str, str] | None = None, *, leave: int = -1) -> str:
    """Return what another process finds: with this environment, and only so many descriptors left."""
    command = [sys.executable, "-c", _LOOK, str(directory), str(leave)]
    whole = os.environ | (environment or {})
    return subprocess.run(command, env=whole, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()


def test_without_a_descriptor_no_gate_is_refused(gate: Path) -> None:
    assert looked(gate, leave=0) == str(errno.EMFILE)
    assert looked(gate, leave=5) == "['active']"


@pytest.mark.parametrize("name", ["EMFILE", "EIO"])
def test_a_gate_whose_settings_cannot_be_read_now_is_not_refused(gate: Path, tmp_path: Path, name: str) -> None:
    shim = Shim(tmp_path, f"{gate}/*")
    shim.fail("open-read", "*/10-scan.conf", name, first=2, times=0)
    assert looked(gate, shim.environment) == str(getattr(errno, name))
    shim.clear()
    assert looked(gate, shim.environment) == "['active']"


def test_a_gate_whose_settings_may_not_be_read_is_refused(gate: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{gate}/*")
    shim.fail("open-read", "*/10-scan.conf", "EACCES", times=0)
    assert looked(gate, shim.environment) == "['refused']"


@contextlib.asynccontextmanager
async def serving(world: World, environment: dict[str, str], *words: str) -> AsyncIterator[None]:
    """Run podbridge as a process of its own while the block runs; the block begins when it answers."""
    process = await asyncio.create_subprocess_exec(
        *words, sys.executable, "-m", "bridge", "serve", f"--config={world.configuration()}",
        env=os.environ | environment, cwd=HERE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await eventually(lambda: answers(world), what="it answers")
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE)


async def answers(world: World) -> bool:
    with contextlib.suppress(OSError):
        return bool(await world.status())
    return False


@pytest.mark.parametrize("stage", ["pre-publish", "verify"])
@pytest.mark.parametrize("error", ["EIO", "EMFILE"])
@pytest.mark.parametrize("known", [True, False], ids=["known before", "since the start"])
async def test_an_image_waits_until_its_gates_can_be_read(
    world: World, shelf: Shelf, stage: str, error: str, known: bool
) -> None:
    shelf.put(stage, "10-scan", "echo no >&2; [ $PODBRIDGE_REFERENCE = old:1 ]")
    settings = shelf.directory / "10-scan.conf"
    settings.write_text("A=1\n")
    shim = Shim(world.directory, f"{shelf.directory}/*")
    old = world.double.build("localhost/old:1")
    async with world.podman():
        if known:
            async with world.service():
                await world.shows({"old:1": old.id})
        else:
            shim.fail("open-read", str(settings), error, times=0)
        async with serving(world, shim.environment):
            if known:
                await world.settled()
                shim.fail("open-read", str(settings), error, times=0)
            world.double.build("localhost/app:1")
            assert os.strerror(getattr(errno, error)) in (await is_in(world, "Failed"))["message"]
            world.double.untag("localhost/old:1")
            await world.shows({})
            assert (await world.condition("TreeWritable"))["status"] is True
            shim.clear()
            assert (await is_in(world, "Denied"))["message"] == "denied by 10-scan: no"
            assert world.shown() == {}


@pytest.mark.parametrize("stage", ["pre-publish", "verify"])
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO], ids=errno.errorcode.get)
async def test_a_gate_that_cannot_be_started_now_is_asked_again(
    world: World, shelf: Shelf, stage: str, code: int
) -> None:
    shelf.put(stage, "10-scan", "echo no >&2; exit 1")
    loop = asyncio.get_running_loop()
    right = loop.subprocess_exec
    async with world.podman(), world.service():

        async def cannot(protocol: object, *words: str, **more: object) -> object:
            if any(word.endswith("/10-scan") for word in words):
                raise OSError(code, os.strerror(code))
            return await right(protocol, *words, **more)  # type: ignore[arg-type]

        loop.subprocess_exec = cannot  # type: ignore[method-assign,assignment]
        try:
            world.double.build("localhost/app:1")
            assert os.strerror(code) in (await is_in(world, "Failed"))["message"]
            assert world.shown() == {}
        finally:
            loop.subprocess_exec = right  # type: ignore[method-assign]
        assert (await is_in(world, "Denied"))["message"] == "denied by 10-scan: no"
        assert world.shown() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_gate_before_which_the_shell_cannot_fork_asks_for_a_later_try() -> None:
    words, end = programs.bound(["/bin/sh", "-c", "exit 0"])
    limited = ["setpriv", "--reuid=64321", "--clear-groups", "prlimit", "--nproc=1", *words]
    assert code_of(limited, end) == os.EX_TEMPFAIL
    assert code_of(words, end) == 0


def test_a_program_that_is_not_there_is_still_told_as_such() -> None:
    words, end = programs.bound(["/none/program"])
    assert code_of(words, end) == 127


def code_of(words: list[str], end: int) -> int:
    """Run words in a group of their own, which is killed with this process, and return the exit code."""
    quiet = subprocess.DEVNULL
    return subprocess.run(words, check=False, pass_fds=(end,), stderr=quiet, start_new_session=True).returncode
