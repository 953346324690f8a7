"""Events and the doorbell are reasons to look: whatever they say or fail to say, the tree ends the same."""

import logging
from collections.abc import Callable

import pytest

from tests.double.gates import eventually
from tests.faults.world import World

FAULTS = ("", "none", "doubled", "reordered", "false")


def work(world: World) -> dict[str, str]:
    """Change the store as a busy day does; return what the tree should show in the end."""
    double = world.double
    first, second = double.build("localhost/app:1", "base", "one"), double.build("localhost/app:2", "base", "two")
    gone = double.build("localhost/gone:1", "base", "gone")
    double.tag(second.id, "localhost/app:1", "localhost/app:latest")
    double.untag("localhost/app:2")
    double.remove(gone.id)
    double.tag(first.id, "quay.io/org/first:1")
    return {"app:1": second.id, "app:latest": second.id, "quay.io/org/first:1": first.id}


@pytest.mark.parametrize("fault", FAULTS)
async def test_any_events_with_a_doorbell_end_in_the_same_tree(world: World, fault: str) -> None:
    world.double.faults.add("events", fault, times=None)
    async with world.podman(), world.service():
        await world.shows(work(world))
        await world.settled()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "none"])
async def test_any_events_without_a_doorbell_end_in_the_same_tree(world: World, fault: str) -> None:
    world.double.rings = False
    world.double.faults.add("events", fault, times=None)
    async with world.podman(), world.service():
        await world.shows(work(world))
        await world.settled()


async def test_without_events_and_doorbell_the_resync_finds_every_change(world: World) -> None:
    world.double.rings = world.double.emits = False
    world.settings["resync"] = "1s"
    async with world.podman(), world.service():
        await world.shows(work(world))


async def test_changes_while_the_service_is_down_are_found_at_its_start(world: World) -> None:
    async with world.podman():
        async with world.service():
            await world.shows(before := work(world))
        world.double.untag("localhost/app:1")
        del before["app:1"]
        async with world.service():
            assert world.shown() == before


@pytest.mark.parametrize("change", ["ring", "emit"])
async def test_a_poke_during_a_sync_is_not_lost(world: World, change: str) -> None:
    gate = world.double.gate("listing")
    async with world.podman(), world.service():
        world.double.faults.add("listing", "hold", gate=str(gate.path))
        first = world.double.build("localhost/app:1")
        await gate.reached()
        world.double.rings, world.double.emits = change == "ring", change == "emit"
        before = world.listings()
        second = world.double.build("localhost/app:2")
        assert world.listings() == before
        gate.open()
        await world.shows({"app:1": first.id, "app:2": second.id})


async def test_a_poke_during_an_export_is_served_before_the_export_ends(world: World) -> None:
    held = world.double.gate("save")
    async with world.podman(), world.service():
        old = world.double.build("localhost/old:1")
        await world.shows({"old:1": old.id})
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        new = world.double.build("localhost/new:1")
        await held.reached()
        world.double.tag(old.id, "localhost/old:2")
        await world.shows({"old:1": old.id, "old:2": old.id})
        held.open()
        await world.shows({"old:1": old.id, "old:2": old.id, "new:1": new.id})


async def test_an_image_whose_name_is_gone_when_its_export_ends_is_not_shown(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="bridge")
    held = world.double.gate("save")
    async with world.podman(), world.service():
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        world.double.build("localhost/app:1")
        await held.reached()
        world.double.untag("localhost/app:1")
        await eventually(lambda: world.pending(0), what="a pass sees that the name is gone")
        held.open()
        await eventually(lambda: world.staged() == [])
        assert world.shown() == {}
    assert "published reference=app:1" not in caplog.text


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "null", "17", "[]", '"text"', "{}", '{"Type": 5}', '{"message": []}', '{"x":"' + "y" * 600_000],
)
async def test_a_line_that_is_no_event_stops_nothing(world: World, line: str) -> None:
    world.double.rings = False
    world.double.faults.add("events", "lines", lines=[line])
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})


@pytest.mark.parametrize("fault", ["eof", "problem"])
async def test_a_podman_without_events_costs_one_warning_and_few_looks(
    world: World, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="bridge")
    world.double.faults.add("events", fault, times=None)
    async with world.podman(), world.service():
        streams = count(world, "begin /events")
        await eventually(lambda: streams() >= 5, what="five attempts to open the stream")
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        condition = await world.condition("EventsStreaming")
        assert condition["status"] is False
        assert world.listings() < 20
    assert [record.levelname for record in caplog.records if "EventsStreaming" in record.getMessage()] == ["WARNING"]


async def test_a_podman_that_is_slow_to_say_its_version_is_not_taken_for_one_with_events(world: World) -> None:
    never = world.double.gate("never")
    world.double.faults.add("events", "eof", times=None)
    world.double.faults.add("version", "hold", times=None, gate=str(never.path))
    async with world.podman(), world.service():
        await never.reached()
        await eventually(lambda: lost_events(world), within=20)  # before the question is given up, after 30 s


async def lost_events(world: World) -> bool:
    """Say whether the service knows that it has no events."""
    return (await world.condition("EventsStreaming"))["status"] is False


def count(world: World, line: str) -> Callable[[], int]:
    """Return a function that counts the lines in the log of requests."""
    return lambda: world.double.log("requests").count(line)


async def test_what_gets_another_name_during_its_export_is_published_once_under_each(world: World) -> None:
    held = world.double.gate("save")
    async with world.podman(), world.service() as service:
        told: list[str] = []
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        with service.reconciler.parts.changes.heard_by(
            lambda change: told.append(f"{change.action} {change.reference}")
        ):
            made = world.double.build("localhost/app:1")
            await held.reached()
            world.double.tag(made.id, "localhost/app:2")
            await eventually(lambda: len(service.reconciler.queue) == 2)
            held.open()
            await eventually(lambda: not service.reconciler.queue)
            await world.shows({"app:1": made.id, "app:2": made.id})
    assert sorted(told) == ["published app:1", "published app:2"]
