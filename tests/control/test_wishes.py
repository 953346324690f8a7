"""What is asked for by hand while something else is under way for the same reference: the last word stands."""

import pytest

from bridge.oci import Reference
from bridge.service.steering import Steering
from tests.double.gates import Gate, eventually
from tests.faults.world import World

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
