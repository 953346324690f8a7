"""Podman goes and comes back, or was never there."""

import contextlib
import json
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from tests.double.gates import eventually
from tests.faults.world import World


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as a warning or worse."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_pulls_go_on_while_podman_is_away_and_its_return_is_followed_by_a_full_look(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as podman:
        await podman.enter_async_context(world.podman())
        await stack.enter_async_context(world.service())
        old = world.double.build("localhost/app:1")
        await world.shows({"app:1": old.id})
        await eventually(lambda: streaming_for(world, 1.0), what="events that have been streaming, and end with podman")
        await podman.aclose()
        await eventually(lambda: reachable(world, expected=False), what="the service notices")
        assert await world.pull("app", "1") == old.id
        world.double.rings = world.double.emits = False
        new = world.double.build("localhost/app:1", "new")
        await podman.enter_async_context(world.podman())
        await world.shows({"app:1": new.id})
        await eventually(lambda: reachable(world, expected=True))
        (told,) = warnings(caplog)  # podman ends before the service does, which may say so once more
    assert str(world.double.socket) in told


async def test_a_service_that_starts_without_podman_serves_what_it_has(world: World) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
    async with world.service(ready=0):
        assert await world.pull("app", "1") == made.id
        await eventually(lambda: reachable(world, expected=False))
        assert (await world.condition("Ready"))["status"] is not True
        other = world.double.build("localhost/app:2")
        async with world.podman():
            await world.shows({"app:1": made.id, "app:2": other.id})


async def test_status_exits_1_while_podman_is_away_and_says_so(world: World) -> None:
    async with world.service(ready=0):
        await eventually(lambda: reachable(world, expected=False))
        answer = await world.command("status", "--json")
    assert answer.code == 1
    (condition,) = [one for one in json.loads(answer.output)["conditions"] if one["type"] == "PodmanReachable"]
    assert condition["status"] is False
    assert str(world.double.socket) in condition["message"]


@pytest.mark.parametrize("verb", ["serve", "sync"])
async def test_podman_not_installed_is_one_line_and_exit_code_78(world: World, verb: str) -> None:
    world.settings["podman"] = {"command": ["/nowhere/podman"]}
    answer = await world.command(verb)
    assert answer.code == 78
    assert answer.errors.count("\n") == 1
    assert "/nowhere/podman is not installed" in answer.errors
    assert not world.tree.exists()


async def test_an_embedded_service_that_is_killed_is_started_again_and_ends_with_podbridge(world: World) -> None:
    world.settings["podman"] = {"command": world.double.command}
    async with world.service():
        first = world.double.build("localhost/app:1")
        await world.shows({"app:1": first.id})
        os.kill(int(world.double.log("services")[0]), signal.SIGKILL)
        world.double.rings = world.double.emits = False
        second = world.double.build("localhost/app:2")
        await world.shows({"app:1": first.id, "app:2": second.id})
    assert [pid for pid in world.double.log("services") if Path("/proc", pid).exists()] == []


async def test_an_embedded_service_that_cannot_run_is_tried_with_backoff_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.settings["podman"] = {"command": world.double.command}
    world.double.faults.add("service", "fail", times=None, words="cannot open the database")
    async with world.service(ready=0):
        await eventually(lambda: len(world.double.log("services")) >= 5)
        first = next(record.created for record in caplog.records if "cannot open the database" in record.getMessage())
        assert time.time() - first > 0.1 + 0.2 + 0.4 + 0.8
        assert len([line for line in warnings(caplog) if "cannot open the database" in line]) == 1
        world.double.faults.heal("service")
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})


async def streaming_for(world: World, seconds: float) -> bool:
    """Say whether the stream of events has been open for so long."""
    condition = await world.condition("EventsStreaming")
    return condition["status"] is True and time.time() - condition["lastTransitionTime"] > seconds


async def reachable(world: World, *, expected: bool) -> bool:
    """Say whether the service believes that podman is there, or away."""
    return (await world.condition("PodmanReachable"))["status"] is expected
