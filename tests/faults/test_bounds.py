"""No answer of podman and no output of a program is read beyond its bound: memory stays flat, and the words say why."""

import asyncio
import sys
from pathlib import Path

import pytest

from bridge.errors import BadAnswerError, PodmanError
from bridge.podman import bounds, process
from bridge.podman.client import UNREAD, Podman
from tests.double.gates import DEADLINE
from tests.faults.world import World

MEBI = 1 << 20
_ENTRY = '{"Id": "' + "a" * 64 + '", "Labels": {"text": "' + "x" * MEBI + '"}},'

_ASK = """
import asyncio, sys
from pathlib import Path
from bridge.errors import PodmanError
from bridge.podman.client import Podman

async def main():
    async with Podman(Path(sys.argv[1])) as podman:
        try:
            await eval(sys.argv[2])
        except PodmanError as error:
            print(error)

asyncio.run(main())
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


async def ask(world: World, question: str) -> tuple[str, int]:
    """Have a process of its own ask podman; return its words, and the most memory that it had, in MB."""
    words = (sys.executable, "-c", _ASK, str(world.double.socket), question)
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(child.communicate(), 2 * DEADLINE)
    *said, memory = output.decode().splitlines()
    return " ".join(said), int(memory) >> 10


@pytest.mark.parametrize(
    ("point", "question", "limit"),
    [
        ("listing", "podman.listing()", bounds.LISTING),
        ("inspect", f"podman.inspect({'a' * 64!r})", bounds.IMAGE),
        ("version", "podman.version()", bounds.SMALL),
    ],
)
async def test_an_endless_answer_is_left_at_its_bound(world: World, point: str, question: str, limit: int) -> None:
    async with world.podman():
        world.double.faults.add(point, "endless", begin="[", more=_ENTRY, status=200)
        said, memory = await ask(world, question)
        _, little = await ask(world, "podman.store()")
    assert f"more than {limit} bytes" in said
    assert memory < little + 3 * limit // MEBI + 30


async def test_of_an_endless_error_only_the_beginning_is_read(world: World) -> None:
    async with world.podman():
        world.double.faults.add("listing", "endless", times=None, begin="it is broken", more="." * MEBI, status=500)
        said, memory = await ask(world, "podman.listing()")
        _, little = await ask(world, "podman.store()")
    assert "it is broken" in said
    assert memory < little + 30


async def test_the_service_goes_on_after_an_endless_listing(world: World) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        world.double.faults.add("listing", "endless", begin="[", more=_ENTRY, status=200)
        other = world.double.build("localhost/other:1")
        await world.shows({"app:1": made.id, "other:1": other.id})


async def test_an_event_that_is_too_long_is_a_reason_to_look_and_the_stream_goes_on(world: World) -> None:
    long = '{"Type": "image", "labels": "' + "x" * (3 * bounds.EVENT) + '"}'
    short = '{"Type": "image", "Action": "tag"}'
    world.double.faults.add("events", "lines", lines=[short, long, short])
    async with world.podman(), Podman(world.double.socket) as podman:
        found = []
        async for event in podman.events():
            found.append(event)
            if len(found) == 4:
                break
    assert found[0] == {}
    assert [event["Action"] for event in found[1:]] == ["tag", UNREAD["Action"], "tag"]


async def test_an_event_within_the_bound_is_read_however_many_labels_it_has(world: World) -> None:
    long = '{"Type": "image", "Action": "build", "labels": "' + "x" * (bounds.EVENT // 2) + '"}'
    world.double.faults.add("events", "lines", lines=[long])
    async with world.podman(), Podman(world.double.socket) as podman:
        events = podman.events()
        assert await anext(events) == {}
        assert (await anext(events))["Action"] == "build"
        await events.aclose()


def program(directory: Path, text: str) -> list[str]:
    """Write a program of Python, and return the words that call it."""
    path = directory / "program"
    path.write_text(f"#!{sys.executable}\nimport sys\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


async def test_a_program_that_writes_without_end_is_ended(tmp_path: Path) -> None:
    words = program(tmp_path, "while True: sys.stdout.write('x' * 65536)")
    with pytest.raises(BadAnswerError, match=f"the program wrote more than {bounds.OUTPUT} bytes"):
        await process.run(words, title="the program")


async def test_of_what_a_program_says_its_last_words_are_kept(tmp_path: Path) -> None:
    words = program(tmp_path, "sys.stderr.write('x' * 10_000_000 + '\\nError: its last words\\n'); sys.exit(3)")
    with pytest.raises(PodmanError, match=r"the program failed with exit code 3: its last words$"):
        await process.run(words, title="the program")
