"""An image that podman cannot read is told with its cure, and everything else goes on."""

import pytest

from tests.double.gates import eventually
from tests.double.store import Double
from tests.faults.world import World


async def damaged(world: World) -> list[str]:
    """Return the IDs of the images that the status names as damaged."""
    return sorted(one["image"] for one in (await world.status())["damage"])


async def names(world: World, *image_ids: str) -> None:
    """Wait until the status names exactly these images as damaged."""

    async def does() -> bool:
        return await damaged(world) == sorted(image_ids)

    await eventually(does, what=f"the status names {image_ids}")


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
async def test_a_cold_start_publishes_the_sound_images_and_names_the_damaged_one(world: World, part: str) -> None:
    good, bad = world.double.build("localhost/good:1"), world.double.build("localhost/bad:1")
    world.double.damage(bad.id, part)
    async with world.podman(), world.service():
        await world.shows({"good:1": good.id})
        await names(world, bad.id)
        synced = await world.condition("Synced")
        assert (synced["status"], synced["reason"]) == (False, "StoreDamaged")
        assert bad.id in synced["message"]
        assert f"podman rmi -f {bad.id}" in synced["message"]
        status = await world.command("status")
        assert (status.code, bad.id in status.output) == (1, True)
        assert f"podman rmi -f {bad.id}" in (await world.command("list")).errors
        assert (await world.command("explain", "localhost/good:1")).code == 0
        assert (await world.command("publish", "localhost/good:1", "--as", "other:1")).code == 0
        for asked in (bad.id, bad.id[:12], "localhost/bad:1"):
            told = await world.command("explain", asked)
            assert (told.code, f"podman rmi -f {bad.id}" in told.errors) == (1, True)
        world.double.remove(bad.id)
        await world.settled()
        assert await damaged(world) == []


async def test_damage_that_comes_while_the_service_runs_withdraws_nothing(world: World) -> None:
    async with world.podman(), world.service():
        made = {f"app:{number}": world.double.build(f"localhost/app:{number}").id for number in range(3)}
        await world.shows(made)
        world.double.damage(made["app:0"], "manifest")
        world.double.damage(made["app:1"], "config")
        await names(world, made["app:0"], made["app:1"])
        assert world.shown() == made
        later = world.double.build("localhost/later:1")
        world.double.untag("localhost/app:2")
        await world.shows({"app:0": made["app:0"], "app:1": made["app:1"], "later:1": later.id})
        world.double.remove(made["app:0"])
        await world.shows({"app:1": made["app:1"], "later:1": later.id})
        await names(world, made["app:1"])


async def test_what_was_published_by_hand_of_an_image_without_names_stays_when_that_is_damaged(world: World) -> None:
    made = world.double.build("localhost/app:1")
    world.double.untag("localhost/app:1")
    async with world.podman(), world.service():
        assert (await world.command("publish", made.id, "--as", "hand:1")).code == 0
        world.double.damage(made.id, "manifest")  # the listing passes over it without a word
        await names(world, made.id)
        assert world.shown() == {"hand:1": made.id}
        assert (await world.condition("Synced"))["reason"] == "StoreDamaged"
        world.double.remove(made.id)
        await world.shows({})


async def test_a_name_that_moves_to_an_image_that_is_damaged_goes_on_showing_the_old_one(world: World) -> None:
    async with world.podman(), world.service():
        old = world.double.build("localhost/app:1")
        world.double.tag(old.id, "localhost/old:1")
        await world.shows({"app:1": old.id, "old:1": old.id})
        quiet = Double(world.double.root, rings=False, emits=False)
        new = quiet.build("localhost/app:1", "new")
        world.double.damage(new.id, "manifest")
        await names(world, new.id)
        assert world.shown() == {"app:1": old.id, "old:1": old.id}


async def test_sync_publishes_the_sound_images_says_what_it_could_not_read_and_exits_1(world: World) -> None:
    good, bad = world.double.build("localhost/good:1"), world.double.build("localhost/bad:1")
    world.double.damage(bad.id, "manifest")
    async with world.podman():
        for words in (("sync", "--dry-run"), ("sync",)):
            done = await world.command(*words)
        assert world.shown() == {"good:1": good.id}
        assert (done.code, f"podman rmi -f {bad.id}" in done.errors) == (1, True)


async def test_a_partial_listing_of_which_podman_names_nothing_is_told_too(world: World) -> None:
    """podman 5.8.6 says only `invalid character 'g'` of a manifest that is no JSON."""
    good = world.double.build("localhost/good:1")
    async with world.podman(), world.service():
        await world.shows({"good:1": good.id})
        world.double.faults.add(
            "listing", "fail", times=2, words="invalid character 'g' looking for beginning of value"
        )
        await world.control_do("POST", "/resync")
        assert (await world.condition("Synced"))["reason"] == "StoreDamaged"
        assert world.shown() == {"good:1": good.id}
        await world.control_do("POST", "/resync")
        assert (await world.condition("Synced"))["status"] is True
