"""An image that cannot be published says why, stops nothing else, is tried again, and is never half visible."""

import asyncio
import logging
import os
import re
import time
from typing import Any

import pytest

from bridge.changes import Change
from bridge.publish.failures import FIRST_RETRY
from tests.double.gates import eventually, opened_for_writing
from tests.double.images import make, text_layer
from tests.faults.world import World

BROKEN_SAVES: dict[str, tuple[dict[str, Any], str]] = {
    "partial save with exit code 0": ({"kind": "partial", "after": 1}, "left out layer"),
    "partial save without an index": ({"kind": "partial", "after": 2}, "index.json is missing"),
    "no index": ({"kind": "no index"}, "index.json is missing"),
    "two manifests": ({"kind": "two entries"}, "2 manifests"),
    "corrupt layer": ({"kind": "corrupt", "layer": 1}, "with bytes of digest"),
    "no space": ({"kind": "fail", "words": "writing blob: no space left on device"}, "125: .*no space left on device"),
    "corrupt store": ({"kind": "fail", "words": "layer not known"}, "exit code 125: layer not known"),
}


@pytest.mark.parametrize("name", BROKEN_SAVES)
async def test_a_broken_export_is_told_is_not_visible_and_is_tried_again_after_a_second(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    details, words = BROKEN_SAVES[name]
    again = world.double.gate("again")
    async with world.podman(), world.service():
        good = world.double.build("localhost/good:1", "base", "good")
        await world.shows({"good:1": good.id})
        await eventually(lambda: world.staged() == [])
        world.double.faults.add("save", **details)
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(again.path))
        begun = time.monotonic()
        made = world.double.build("localhost/app:1", "base 2", "own")
        assert re.search(words, await world.failed("app:1"))
        await again.reached()
        assert time.monotonic() - begun > FIRST_RETRY
        assert len(world.staged()) == 1, "of the second try alone"
        assert world.shown() == {"good:1": good.id}
        assert (await world.get("/v2/app/manifests/1"))[0] == 404
        assert (await world.condition("Synced"))["status"] is False
        assert await world.pull("good", "1") == good.id
        again.open()
        await world.shows({"good:1": good.id, "app:1": made.id})
        assert await world.pull("app", "1") == made.id
        await world.settled()
        assert await world.failures() == {}
    assert [record.levelname for record in caplog.records if "app:1" in record.getMessage()] == ["WARNING"]


async def test_a_layer_that_a_save_leaves_out_is_taken_from_a_push(world: World) -> None:
    """podman 5 leaves layers out of a whole save that may not be distributed, and pushes them to a directory."""
    async with world.podman(), world.service():
        world.double.faults.add("save", "leaves out", layer=1)
        made = world.double.build("localhost/app:1", "base", "own")
        await world.shows({"app:1": made.id})
        assert await world.pull("app", "1") == made.id
        await world.settled()


async def test_a_layer_that_podman_writes_in_no_way_is_named_and_tried_again(world: World) -> None:
    async with world.podman(), world.service():
        world.double.faults.add("save", "leaves out", layer=1)
        world.double.faults.add("push", "leaves out", layer=1)
        made = world.double.build("localhost/app:1", "base", "own")
        assert f"left out layer sha256:{made.layer_names[1]}" in await world.failed("app:1")
        await world.shows({"app:1": made.id})


async def test_a_wrong_config_that_an_export_wrote_is_replaced_by_the_one_in_the_store(world: World) -> None:
    async with world.podman(), world.service():
        world.double.faults.add("save", "wrong config")
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        assert await world.pull("app", "1") == made.id


async def test_a_config_that_is_damaged_in_the_store_is_refused_until_it_is_mended(world: World) -> None:
    world.double.rings = world.double.emits = False
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        world.double.blob(made.id).write_bytes(made.config.replace(b"amd64", b"arm64"))
        world.double.ring()
        await world.failed("app:1")
        assert world.shown() == {}
        world.double.blob(made.id).write_bytes(made.config)
        await world.shows({"app:1": made.id})


async def test_a_failing_image_is_tried_ever_more_seldom_and_warned_of_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.podman(), world.service():
        world.double.faults.add("save", "fail", times=None, words="layer not known")
        begun = time.monotonic()
        world.double.build("localhost/app:1")
        await eventually(lambda: len(world.double.log("saves")) == 3)
        assert time.monotonic() - begun > 1 + 2
        assert world.listings() < 15
    assert len([record for record in caplog.records if "layer not known" in record.getMessage()]) == 1


async def test_resync_tries_a_failed_image_at_once(world: World) -> None:
    changes: list[Change] = []
    async with world.podman(), world.service() as service:
        world.double.faults.add("save", "fail", times=3, words="layer not known")
        made = world.double.build("localhost/app:1")
        await eventually(lambda: world.attempts("app:1", 3))
        with service.reconciler.parts.changes.heard_by(changes.append):
            await world.control_do("POST", "/resync")
            await world.shows({"app:1": made.id})
            await eventually(lambda: changes)
        assert [change.attempts for change in changes] == [1], "the next try by itself would have been the fourth"


async def test_a_name_that_goes_back_to_a_published_image_is_no_failure_any_more(world: World) -> None:
    async with world.podman(), world.service():
        old = world.double.build("localhost/app:1", "old")
        await world.shows({"app:1": old.id})
        world.double.faults.add("save", "fail", times=None, words="layer not known")
        world.double.build("localhost/app:1", "broken")
        await world.failed("app:1")
        world.double.tag(old.id, "localhost/app:1")
        await eventually(world.has_no_failure)
        await world.settled()
        assert world.shown() == {"app:1": old.id}
        assert await listings_within(world, 1.5) <= 6


async def test_a_retry_that_takes_long_does_not_list_the_store_over_and_over(world: World) -> None:
    held = world.double.gate("save")
    async with world.podman(), world.service():
        world.double.faults.add("save", "fail", words="layer not known")
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        made = world.double.build("localhost/app:1")
        await held.reached()
        assert await listings_within(world, 1.0) <= 1
        held.open()
        await world.shows({"app:1": made.id})


async def test_what_fails_during_a_pass_that_would_queue_it_is_tried_again_after_a_second_too(world: World) -> None:
    held, again = world.double.gate("save"), world.double.gate("again")
    async with world.podman(), world.service():
        for gate in (held, again):
            world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(gate.path))
        made = world.double.build("localhost/app:1")
        await held.reached()
        manifest = world.tree / "blobs" / made.digest.replace(":", "/")
        os.mkfifo(manifest)  # the next pass looks there whether the tree has the image, and waits
        world.double.ring()
        writing = await opened_for_writing(manifest)
        manifest.unlink()
        world.double.blob(made.id).rename(world.directory / "config")
        begun = time.monotonic()
        held.open()
        await world.failed("app:1")
        (world.directory / "config").rename(world.double.blob(made.id))
        os.close(writing)
        await again.reached()
        assert time.monotonic() - begun > FIRST_RETRY
        again.open()
        await world.shows({"app:1": made.id})


async def test_an_image_removed_during_its_export_leaves_no_trace_and_no_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    held = world.double.gate("save")
    async with world.podman(), world.service():
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        made = world.double.build("localhost/app:1", "one", "two")
        await held.reached()
        world.double.remove(made.id)
        held.open()
        await eventually(lambda: world.staged() == [])
        await world.settled()
        assert world.shown() == {}
        assert await world.failures() == {}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_image_removed_during_its_export_and_a_listing_that_still_has_it_is_no_failure(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    held, listing = world.double.gate("save"), world.double.gate("listing")
    async with world.podman(), world.service() as service:
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        made = world.double.build("localhost/app:1", "one", "two")
        await held.reached()
        world.double.faults.add("listing", "hold", gate=str(listing.path))
        world.double.ring()
        await listing.reached()
        world.double.remove(made.id)
        held.open()
        await eventually(lambda: world.double.log("requests").count(f"end /images/{made.id}/exists") == 1)
        await eventually(lambda: not service.reconciler.queue)
        listing.open()
        await eventually(lambda: service.reconciler.images == () and not service.reconciler.queue)
        await eventually(lambda: world.staged() == [])
        assert await world.failures() == {}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_image_that_is_listed_but_unknown_is_not_tried_in_a_hot_loop(world: World) -> None:
    async with world.podman(), world.service():
        world.double.faults.add("inspect", "unknown", times=None)
        world.double.faults.add("exists", "unknown", times=None)
        made = world.double.build("localhost/app:1")
        await eventually(lambda: inspections(world) >= 1)
        assert await listings_within(world, 1.5) <= 8
        world.double.faults.heal("inspect")
        world.double.faults.heal("exists")
        await world.shows({"app:1": made.id})


async def test_a_failure_is_a_failure_also_where_podman_cannot_say_whether_the_image_is_there(world: World) -> None:
    async with world.podman(), world.service():
        world.double.faults.add("save", "fail", times=None, words="layer not known")
        world.double.faults.add("exists", "fail", times=None, words="database is locked")
        world.double.build("localhost/app:1")
        assert "layer not known" in await world.failed("app:1")


async def test_a_failing_image_stops_no_other(world: World) -> None:
    world.double.rings = world.double.emits = False
    async with world.podman(), world.service():
        bad = world.double.build("localhost/bad:1", "x")
        good = world.double.build("localhost/good:1", "x", "more")
        world.double.blob(bad.id).write_bytes(bad.config.replace(b"amd64", b"arm64"))
        world.double.ring()
        await world.failed("bad:1")
        await world.shows({"good:1": good.id})
        assert set(await world.failures()) == {"bad:1"}
        world.double.blob(bad.id).write_bytes(bad.config)
        await world.shows({"good:1": good.id, "bad:1": bad.id})


async def test_an_export_that_hangs_stops_no_other(world: World) -> None:
    held = world.double.gate("save")
    async with world.podman(), world.service():
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        slow = world.double.build("localhost/slow:1", "slow")
        await held.reached()
        quick = world.double.build("localhost/quick:1", "quick")
        await world.shows({"quick:1": quick.id})
        held.open()
        await world.shows({"quick:1": quick.id, "slow:1": slow.id})


async def test_a_base_that_several_new_images_share_is_read_once(world: World) -> None:
    made = [world.double.build(f"localhost/app:{number}", "base", f"own {number}") for number in range(5)]
    async with world.podman(), world.service():
        assert world.shown() == {f"app:{number}": image.id for number, image in enumerate(made)}
    assert sorted(world.double.log("reads")) == sorted({name for image in made for name in image.layer_names})


async def test_a_base_whose_first_reader_fails_is_read_by_the_next(world: World) -> None:
    made = [world.double.build(f"localhost/app:{number}", "base", f"own {number}") for number in range(3)]
    world.double.faults.add("save", "corrupt", layer=0)
    async with world.podman(), world.service():
        await world.shows({f"app:{number}": image.id for number, image in enumerate(made)})
        assert await world.pull("app", "0") == made[0].id
    assert world.double.log("reads").count(made[0].layer_names[0]) == 2


async def test_a_publication_that_was_asked_for_and_failed_says_why_to_who_asked(world: World) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        broken = world.double.build("<none>", "broken")
        world.double.faults.add("save", "fail", times=None, words="layer not known")
        answer = await world.command("publish", broken.id, "--as", "hotfix:1")
        assert answer.code == 1
        assert "layer not known" in answer.errors
        assert world.shown() == {"app:1": made.id}


async def listings_within(world: World, seconds: float) -> int:
    """Count the listings of the next seconds: how busy an idle service is can be seen in no shorter way."""
    before = world.listings()
    await asyncio.sleep(seconds)
    return world.listings() - before


def inspections(world: World) -> int:
    return sum(
        line.startswith("begin /images/") and line != "begin /images/json" for line in world.double.log("requests")
    )


async def test_a_blob_in_the_tree_that_is_none_is_replaced_and_stops_no_other_image(world: World) -> None:
    async with world.podman(), world.service():
        broken = make([text_layer("broken")])
        blob = world.tree / "blobs/sha256" / broken.digest.removeprefix("sha256:")
        blob.symlink_to("/proc/self/mem")
        world.double.add(broken, "localhost/broken:1")
        good = world.double.build("localhost/good:1")
        await world.shows({"broken:1": broken.id, "good:1": good.id})
        assert blob.is_file()
        assert not blob.is_symlink()
