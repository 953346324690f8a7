"""What has happened is told to hooks in order, once, and never in the way of anything."""

import asyncio
import time

import pytest

from bridge.hooks.calling import LIMIT
from bridge.service.afterwards import PATIENCE
from tests.double.gates import eventually
from tests.faults.world import World
from tests.hooks.shelf import Shelf


async def test_publication_withdrawal_and_failure_are_told_with_their_documents(world: World, shelf: Shelf) -> None:
    for stage in ("post-publish", "post-withdraw", "publish-failed"):
        shelf.record(stage)
    async with world.podman(), world.service():
        old = world.double.build("localhost/app:1", "old")
        await eventually(lambda: len(shelf.documents()) == 1)
        world.double.faults.add("save", "fail", times=2, words="layer not known")
        new = world.double.build("localhost/app:1", "new")
        await eventually(lambda: len(shelf.documents()) == 3)
        world.double.untag("localhost/app:1")
        await eventually(lambda: len(shelf.documents()) == 4)
    first, failure, second, gone = shelf.documents()
    layout = str(world.tree / "repositories/app/_oci")
    assert [one["stage"] for one in shelf.documents()] == [
        "post-publish", "publish-failed", "post-publish", "post-withdraw"
    ]  # fmt: skip
    told = [(one["digest"], one["previousDigest"], one["layout"], one["attempt"]) for one in shelf.documents()]
    assert told[0] == (old.digest, None, layout, 1)
    assert told[1] == (None, old.digest, None, 1), "told once for the same words, not at every try"
    assert told[2] == (new.digest, old.digest, layout, 3)
    assert told[3][:3] == (new.digest, new.digest, None)
    assert "layer not known" in failure["message"]
    assert (second["trigger"], first["fidelity"], gone["fidelity"]) == ("retry", "exact", "exact")
    for told_image, image in ((first, old), (failure, new), (gone, new)):
        assert told_image["image"]["id"] == image.id
    assert (first["image"]["architecture"], first["image"]["os"]) == ("amd64", "linux")
    assert first["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert first["image"]["names"] == ["localhost/app:1"]


async def test_a_denial_is_told_as_a_failure_with_the_hook(world: World, shelf: Shelf) -> None:
    shelf.record("publish-failed")
    shelf.put("pre-publish", "10-no", "echo no >&2; exit 1")
    async with world.podman(), world.service():
        world.double.build("localhost/app:1")
        await eventually(lambda: len(shelf.documents()) == 1)
    (told,) = shelf.documents()
    assert (told["deniedBy"], told["message"]) == ("10-no", "denied by 10-no: no")


async def test_the_same_image_once_more_is_no_news(world: World, shelf: Shelf) -> None:
    shelf.record("post-publish")
    async with world.podman():
        async with world.service():
            made = world.double.build("localhost/app:1")
            await world.shows({"app:1": made.id})
            await eventually(lambda: len(shelf.documents()) == 1)
        world.settings["keep"] = "7d"
        async with world.service():
            await world.settled()
            assert (await world.control_get("/publications"))["publications"][0]["keep"] == 7 * 86400
    assert len(shelf.documents()) == 1


async def test_those_of_one_reference_come_in_order_and_hold_up_no_other_and_no_pass(
    world: World, shelf: Shelf
) -> None:
    gate = shelf.directory / "gate"
    held = f'while [ "$PODBRIDGE_REPOSITORY" = slow ] && ! [ -e {gate} ]; do sleep 0.01; done'
    for stage in ("post-publish", "post-withdraw"):
        shelf.put(stage, "10-hold", held)
        shelf.record(stage, "20-record")
    async with world.podman(), world.service():
        slow = world.double.build("localhost/slow:1", "a")
        await world.shows({"slow:1": slow.id})
        world.double.untag("localhost/slow:1")
        await world.shows({})
        again = world.double.build("localhost/slow:1", "b")
        quick = world.double.build("localhost/quick:1", "c")
        await world.shows({"slow:1": again.id, "quick:1": quick.id})
        await eventually(lambda: [told["reference"] for told in shelf.documents()] == ["quick:1"])
        gate.touch()
        await eventually(lambda: len(shelf.documents()) == 4)
    told = [(one["stage"], one["digest"]) for one in shelf.documents() if one["reference"] == "slow:1"]
    assert told == [("post-publish", slow.digest), ("post-withdraw", slow.digest), ("post-publish", again.digest)]


async def test_one_that_fails_is_logged_and_stops_no_other(
    world: World, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.put("post-publish", "10-broken", "echo cannot >&2; exit 1")
    shelf.write("post-publish", "15-no-interpreter", "#!/none\n")
    shelf.record("post-publish", "20-record")
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await eventually(lambda: len(shelf.documents()) == 1)
        await world.shows({"app:1": made.id})
        assert (await world.condition("Synced"))["status"] is True
    said = [record.getMessage() for record in caplog.records if "hook failed" in record.getMessage()]
    assert len(said) == 2
    assert "hook=10-broken stage=post-publish reference=app:1" in said[0]
    assert "exit code 1: cannot" in said[0]


async def test_a_stop_waits_a_moment_and_names_what_is_left(
    world: World, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    began = shelf.directory / "q"
    shelf.put(
        "post-publish", "10-quick",
        f"[ $PODBRIDGE_REPOSITORY = quick ] && touch {began} && sleep 1; echo >>{shelf.directory}/ran",
    )  # fmt: skip
    shelf.put(
        "post-publish", "20-hangs", f"[ $PODBRIDGE_REPOSITORY = quick ] || {{ touch {shelf.directory}/h; sleep 300; }}"
    )
    async with world.podman():
        async with world.service():
            world.double.build("localhost/hangs:1")
            await eventually((shelf.directory / "h").exists)
            world.double.build("localhost/quick:1", "q")
            await eventually(began.exists)
            begun = time.monotonic()
        assert PATIENCE <= 5
        assert time.monotonic() - begun < LIMIT / 2, "what hangs would be waited for so long"
    assert len(shelf.lines("ran")) == 2, "what could be done in a moment was done"
    said = [record.getMessage() for record in caplog.records if "hooks not run" in record.getMessage()]
    assert said == ["hooks not run to their end, podbridge stops stage=post-publish reference=hangs:1"]


async def test_sync_waits_for_hooks(world: World, shelf: Shelf) -> None:
    shelf.put("post-publish", "10-slow", "sleep 1")
    shelf.record("post-publish", "20-record")
    async with world.podman():
        made = world.double.build("localhost/app:1")
        answer = await world.command("sync")
        assert answer.code == 0, answer.errors
        assert "hook ran hook=10-slow" in answer.errors
    (told,) = shelf.documents()
    assert (told["digest"], told["trigger"]) == (made.digest, "request")


async def test_without_hooks_there_is_no_task(world: World, shelf: Shelf) -> None:
    async with world.podman(), world.service():
        before = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        assert not [name for name in before if "Afterwards" in name]


async def test_another_image_that_is_denied_for_the_same_reason_is_news(world: World, shelf: Shelf) -> None:
    shelf.record("publish-failed")
    shelf.put("pre-publish", "10-no", "echo no >&2; exit 1")
    async with world.podman(), world.service():
        images = []
        for number in (1, 2):
            images.append(world.double.build("localhost/app:1", f"build {number}").id)
            await eventually(lambda: [told["image"]["id"] for told in shelf.documents()] == images)
