"""What clients of one socket take is no loss to any other, nor to podbridge's own work."""

import asyncio
import os
import random
import resource
import signal
from pathlib import Path

import pytest

from tests.double.gates import eventually
from tests.faults.attacks import EVENTS, FEED, Process, attacked, serving, unfinished
from tests.faults.world import World

MIB = 1024 * 1024
FEW = 64
"""Descriptors, the least with which a service starts."""

ATTACKS = {
    "api events": ("api", EVENTS),
    "api heads": ("api", unfinished("/v1.41/info", 1_000_000)),
    "api silence": ("api", b""),
    "api bodies": ("api", b"POST /auth HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "control events": ("c", FEED),
    "control heads": ("c", unfinished("/bridge/v1/status", 790_000)),
    "control silence": ("c", b""),
    "control bodies": ("c", b"POST /bridge/v1/publications HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n"),
    "probes silence": ("", b""),
    "probes heads": ("", unfinished("/metrics", 790_000)),
}


async def place_of(world: World, name: str) -> Path | str:
    """Return where an attack goes."""
    return world.directory / name if name else str((await world.status())["sockets"]["metrics"])


async def cost_of_answers(service: Process) -> float:
    """Return the processor time that ten answers to another client cost the service, and what it does meanwhile."""
    before = service.computed()
    for _ in range(10):
        await service.world.status()
    return service.computed() - before


@pytest.mark.parametrize(("name", "content"), ATTACKS.values(), ids=ATTACKS)
async def test_under_attack_a_service_publishes_and_answers_and_gives_all_back(
    world: World, name: str, content: bytes
) -> None:
    async with world.podman(), serving(world, FEW) as service:
        place = await place_of(world, name)
        usual = await cost_of_answers(service)
        memory, files = service.memory(), len(service.descriptors())
        async with attacked(place, content, 700 if len(content) < 1000 else 100):
            made = world.double.build("localhost/app:1")
            await world.shows({"app:1": made.id})
            assert (await world.status())["pid"] == service.pid
            assert service.memory() - memory < 64 * MIB
            assert await cost_of_answers(service) < 20 * usual + 0.2
        await eventually(lambda: len(service.descriptors()) <= files + 4, what="its descriptors are free again")
        await eventually(service.is_whole, what="every condition is well")


async def test_what_is_one_too_many_is_told_when_to_come_again(world: World) -> None:
    async with world.podman(), serving(world, 256) as service:
        for name, content in (("api", EVENTS), ("c", FEED)):
            async with attacked(world.directory / name, content, 300) as answers:
                await eventually(lambda told=answers: sum(b" 503 " in one for one in told) > 100)  # type: ignore[misc]
                refused = [one for one in answers if b" 503 " in one]
                assert all(b"Retry-After: 1\r\n" in one and b'"response":503' in one for one in refused)
        assert len(service.descriptors()) < 256


async def short_of_everything(service: Process, chance: random.Random) -> None:
    """Let the service open nothing, or next to nothing, or take the numbers that it has."""
    used = service.descriptors()
    most = chance.choice([3, used[-1] + 1 + chance.randrange(8), len(used) // 2])
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (most, 512))
    await asyncio.sleep(chance.random() / 4)  # not a wait for anything: so long it is short


async def test_a_service_that_can_open_nothing_for_a_while_lives_and_makes_up_for_it(world: World) -> None:
    chance = random.Random(11)
    expected = {}
    async with world.podman(), serving(world, 512) as service:
        for number in range(12):
            made = world.double.build(f"localhost/app:{number}", f"content {number}")
            expected[f"app:{number}"] = made.id
            await short_of_everything(service, chance)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (512, 512))
        await world.shows(expected)
        await eventually(service.is_whole, what="every condition is well")


async def test_a_worker_that_cannot_be_replaced_for_want_of_descriptors_is_replaced_later(world: World) -> None:
    async with world.podman(), serving(world, 512) as service:
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (3, 512))
        (worker,) = workers(service.pid)
        os.kill(worker, signal.SIGKILL)
        await eventually(lambda: not workers(service.pid), what="the worker has gone")
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (512, 512))
        await eventually(lambda: workers(service.pid), what="another worker")
        assert await world.pull("app", "1") == made.id


def workers(pid: int) -> list[int]:
    """Return the pids of the processes that answer pulls for a service."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [int(child) for child in children if b"bridge.registry.worker" in command(child)]


def command(pid: str) -> bytes:
    """Return the words that a process was started with; none if it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
