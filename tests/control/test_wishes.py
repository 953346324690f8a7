"""What is asked for by hand while something else is under way for the same reference: the last word stands."""

import asyncio
import logging

import pytest

from bridge.errors import ControlError, NotPublishedError
from bridge.oci import Reference
from bridge.service.steering import Steering
from tests.double.gates import Gate, eventually
from tests.faults.world import World
from tests.hooks.shelf import Shelf

BY_HAND = {"publish": [{"match": "localhost/hand/*", "skip": True}]}
"""Images that no rule publishes."""
REFERENCE = Reference.parse("app:1")


@pytest.fixture
def world(world: World) -> World:
    """A world with images that only hands publish."""
    world.settings |= BY_HAND
    return world


def hold(world: World, name: str = "save") -> Gate:
    """Have the next export wait at a gate before it writes anything."""
    held = world.double.gate(name)
    world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
    return held


async def publish(service: Steering, image: str, reference: Reference = REFERENCE) -> None:
    """Publish by hand, also from under the rules, and wait for it."""
    async for _ in service.publishing(image, reference, force=True):
        pass


async def idle(world: World, service: Steering) -> None:
    """Wait until nothing is exported any more, and nobody waits for anything."""
    await eventually(lambda: not service.reconciler.queue and not service.requests.waiting)
    await eventually(lambda: world.staged() == [])


async def test_an_export_of_the_rules_does_not_take_back_what_was_taken_by_force_meanwhile(world: World) -> None:
    async with world.podman(), world.service() as service:
        by_hand = world.double.build("localhost/hand/app:1", "hand")
        held = hold(world)
        world.double.build("localhost/app:1", "ruled")
        await held.reached()
        await publish(service, "hand/app:1")
        held.open()
        await idle(world, service)
        assert world.shown() == {"app:1": by_hand.id}
        assert service.publication(REFERENCE).requested


async def test_of_two_images_that_are_asked_for_the_last_is_shown_whichever_export_ends_last(world: World) -> None:
    async with world.podman(), world.service() as service:
        world.double.build("localhost/hand/slow:1", "slow")
        quick = world.double.build("localhost/hand/quick:1", "quick")
        held = hold(world)
        first = asyncio.create_task(publish(service, "hand/slow:1"))
        await held.reached()
        await publish(service, "hand/quick:1")
        held.open()
        with pytest.raises(ControlError, match="app:1 is not published: it was withdrawn meanwhile, or another image"):
            await first
        await idle(world, service)
        assert world.shown() == {"app:1": quick.id}


async def test_an_image_that_is_asked_for_again_after_another_one_is_shown(world: World) -> None:
    async with world.podman(), world.service() as service:
        slow = world.double.build("localhost/hand/slow:1", "slow")
        world.double.build("localhost/hand/quick:1", "quick")
        held = hold(world)
        first = asyncio.create_task(publish(service, "hand/slow:1"))
        await held.reached()
        await publish(service, "hand/quick:1")
        again = asyncio.create_task(publish(service, "hand/slow:1"))
        await eventually(lambda: [target.image.id for target in service.requests.waiting] == [slow.id])
        held.open()
        await asyncio.gather(first, again, return_exceptions=True)
        assert again.exception() is None
        await idle(world, service)
        assert world.shown() == {"app:1": slow.id}
        assert len(world.double.log("saves")) == 2


@pytest.mark.parametrize("hold_back", [False, True])
async def test_what_is_withdrawn_while_it_is_exported_by_hand_is_not_shown_until_it_is_asked_for_again(
    world: World, *, hold_back: bool
) -> None:
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/hand/app:1")
        held = hold(world)
        first = asyncio.create_task(publish(service, "hand/app:1"))
        await held.reached()
        await service.withdraw(REFERENCE, hold=hold_back)
        if not hold_back:
            with pytest.raises(NotPublishedError):
                service.publication(REFERENCE)
        second = asyncio.create_task(publish(service, "hand/app:1")) if hold_back else None
        if second is not None:
            await eventually(lambda: service.requests.waiting)
        held.open()
        (told,) = await asyncio.gather(first, return_exceptions=True)
        if second is not None:
            await second
        is_shown_by_then = hold_back and told is None  # the second may be through while the first tidies up
        assert is_shown_by_then or (isinstance(told, ControlError) and "app:1 is not published" in str(told))
        await idle(world, service)
        assert world.shown() == ({"app:1": made.id} if hold_back else {})


async def test_a_stop_ends_also_the_export_of_what_is_not_asked_for_any_more(world: World) -> None:
    async with world.podman():
        async with world.service() as service:
            world.double.build("localhost/hand/app:1")
            held = hold(world)
            first = asyncio.create_task(publish(service, "hand/app:1"))
            await held.reached()
            await service.withdraw(REFERENCE, hold=False)
        await asyncio.gather(first, return_exceptions=True)
        assert world.staged() == []


async def test_an_image_that_leaves_the_store_at_the_end_of_its_export_is_not_shown(
    world: World,
) -> None:
    shelf = Shelf(world.directory / "hooks.d")
    world.settings["hooks"] = {"directories": [str(shelf.directory)]}
    held = shelf.hold("verify", "10-hold")
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/hand/app:1")
        asked = asyncio.create_task(publish(service, "hand/app:1"))
        await held.reached()
        world.double.remove(made.id)
        await eventually(lambda: service.reconciler.images == ())
        held.open()
        with pytest.raises(ControlError, match="its image has left podman's store"):
            await asked
        await idle(world, service)
        assert world.shown() == {}


async def test_the_withdrawal_of_what_was_taken_by_force_gives_it_back_to_the_rules_at_once(world: World) -> None:
    async with world.podman(), world.service() as service:
        ruled = world.double.build("localhost/app:1", "ruled")
        world.double.build("localhost/hand/app:1", "hand")
        await world.shows({"app:1": ruled.id})
        await publish(service, "hand/app:1")
        await service.withdraw(REFERENCE, hold=False)
        await world.shows({"app:1": ruled.id})


async def test_an_export_that_fails_when_nobody_wants_it_any_more_is_no_failure(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.podman(), world.service() as service:
        held = hold(world)
        broken = world.double.build("localhost/app:1", "broken")
        await held.reached()
        world.double.blob(broken.id).unlink()
        new = world.double.build("localhost/app:1", "new")
        await world.shows({"app:1": new.id})
        held.open()
        await eventually(lambda: world.staged() == [])
        await idle(world, service)
        assert (await world.condition("Synced"))["status"] is True
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
