"""A publication that somebody waits for: steps while its export runs, what it came to, and why it did not."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from bridge.control.schema import PublicationView
from bridge.errors import ControlError, ImageUnknownError, UnreachableError
from bridge.oci import Digest, Reference
from bridge.policy import Policy, Rule
from bridge.progress import Event, Shown, Step, failure, records
from bridge.service import finding
from bridge.service.steering import Steering
from tests.faults.world import World

BY_HAND = {"publish": [{"match": "localhost/hand/*", "skip": True}]}
"""Images that no rule publishes."""
REFERENCE = Reference.parse("by/hand:1")


async def published(service: Steering, image: str, reference: Reference | None) -> list[PublicationView]:
    """Publish an image, wait for it, and return what it shows."""
    steps = [step async for step in service.publishing(image, reference)]
    return [service.publication(step.reference) for step in steps if isinstance(step, Shown)]


async def test_an_export_is_told_step_by_step_and_ends_with_what_is_shown(world: World) -> None:
    world.settings |= BY_HAND
    held = world.double.gate("save")
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/hand/app:1", "base", "own", size=1000)
        world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(held.path))
        steps = service.publishing("hand/app:1", REFERENCE)
        assert await anext(steps) is not None
        await held.reached()
        told = [step async for step in _until(steps, layers_done=1)]
        assert told[-1] == Step(REFERENCE, made.id, 1, 2, told[-1].written)
        assert told[-1].written > 1000
        held.open()
        last = [step async for step in steps][-1]
        assert last == Shown(REFERENCE, Digest.parse(made.digest), len(made.manifest))
        assert world.shown() == {"by/hand:1": made.id}


async def _until(steps: AsyncIterator[Event], layers_done: int) -> AsyncIterator[Step]:
    async for step in steps:
        assert isinstance(step, Step)
        yield step
        if step.layers_done == layers_done:
            return


async def test_what_the_tree_holds_already_is_shown_at_once(world: World) -> None:
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        *steps, last = [step async for step in service.publishing("app:1", REFERENCE)]
        assert last == Shown(REFERENCE, Digest.parse(made.digest), len(made.manifest))
        assert all(step == Step(REFERENCE, made.id) for step in steps), "where the disk is slow: nothing is exported"
    assert len(world.double.log("saves")) == 1


async def test_by_the_rules_every_reference_of_an_image_is_shown(world: World) -> None:
    world.settings |= {"publish": [{"as": ["{path}:{tag}", "all/{name}:{tag}"]}]}
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/app:1")
        steps = [step async for step in service.publishing("app:1", None)]
        assert [str(step.reference) for step in steps if isinstance(step, Shown)] == ["app:1", "all/app:1"]
        assert world.shown() == {"app:1": made.id, "all/app:1": made.id}


async def test_who_stops_listening_stops_nothing(world: World) -> None:
    world.settings |= BY_HAND
    held = world.double.gate("save")
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/hand/app:1")
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        async with contextlib.aclosing(service.publishing("hand/app:1", REFERENCE)) as steps:
            await anext(steps)
        await held.reached()
        held.open()
        await world.shows({"by/hand:1": made.id})


async def test_two_who_ask_for_the_same_wait_for_one_export(world: World) -> None:
    world.settings |= BY_HAND
    held = world.double.gate("save")
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/hand/app:1")
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        both = [service.publishing("hand/app:1", REFERENCE) for _ in range(2)]
        for steps in both:
            assert isinstance(await anext(steps), Step), "it has begun to wait"
        await held.reached()
        assert len(service.requests.waiting) == 1
        held.open()
        for steps in both:
            *_, last = [step async for step in steps]
            assert last == Shown(REFERENCE, Digest.parse(made.digest), len(made.manifest))
        assert len(world.double.log("saves")) == 1


async def test_a_failure_is_raised_with_podmans_words_and_stays_to_be_seen(world: World) -> None:
    world.settings |= BY_HAND
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/hand/app:1")
        world.double.faults.add("save", "fail", words="layer not known")
        with pytest.raises(ControlError, match=r"by/hand:1 is not published: .*layer not known"):
            await published(service, "hand/app:1", REFERENCE)
        await service.resync(prune=False)
        assert [failed.target.reference for failed in service.requests.failures] == [REFERENCE]
        await published(service, "hand/app:1", REFERENCE)
        assert service.requests.failures == ()
        assert world.shown() == {"by/hand:1": made.id}


async def test_a_reference_of_the_rules_is_taken_over_only_by_force(world: World) -> None:
    world.settings |= BY_HAND
    async with world.podman(), world.service() as service:
        ruled = world.double.build("localhost/app:1")
        hand = world.double.build("localhost/hand/app:1")
        await world.shows({"app:1": ruled.id})
        app = Reference.parse("app:1")
        with pytest.raises(ControlError, match="the rules give app:1 to localhost/app:1, another image"):
            await published(service, "hand/app:1", app)
        assert world.shown() == {"app:1": ruled.id}
        assert [step async for step in service.publishing("hand/app:1", app, force=True)]
        await service.resync(prune=False)
        assert world.shown() == {"app:1": hand.id}


async def test_what_the_rules_say_too_follows_the_rules_afterwards(world: World) -> None:
    async with world.podman(), world.service() as service:
        world.double.build("localhost/app:1")
        (view,) = await published(service, "app:1", Reference.parse("app:1"))
        assert not view.requested
        newer = world.double.build("localhost/app:1", "newer")
        await world.shows({"app:1": newer.id})


async def test_an_unknown_image_and_a_podman_that_is_away_are_told_apart(world: World) -> None:
    async with world.service(ready=0) as service:
        with pytest.raises(UnreachableError):
            await published(service, "app:1", None)
        async with world.podman():
            with pytest.raises(ImageUnknownError, match="'app:1' is not in podman's store"):
                await published(service, "app:1", None)


def test_a_stream_is_the_one_of_libpods_push() -> None:
    image, digest = "5" * 64, Digest.of(b"")
    assert records(Step(REFERENCE, image)) == ({"stream": "Preparing by/hand:1 from image 555555555555\n"},)
    assert records(Step(REFERENCE, image, 1, 2, 12_345_678)) == (
        {"stream": "Exporting by/hand:1: 1 of 2 layers, 12.3 MB\n"},
    )
    assert records(Shown(REFERENCE, digest, 3)) == (
        {"stream": "Published by/hand:1\n"},
        {"manifestdigest": str(digest)},
    )
    assert failure("no space left") == {"error": "no space left"}


async def test_a_request_that_comes_with_new_rules_before_their_first_pass_is_answered(world: World) -> None:
    async with world.podman(), world.service() as service:
        world.double.build("localhost/app:1")
        await service.reconciler.look()
        (image,) = service.reconciler.images
        rules = Policy((Rule(as_="moved/{name}:{tag}"),))
        service.reconciler.follow(rules, service.reconciler.parts.bounds)
        with pytest.raises(ControlError, match="the rules have just changed; ask again"):
            finding.targets(service.reconciler, image, None, force=False)
