"""What gates decide: allow, deny, ask again later; remembered, told, and never in the way of a pass."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bridge.hooks.calling import GATE_LIMIT
from tests.double.gates import eventually, opened_for_writing
from tests.faults.world import World
from tests.hooks.shelf import Shelf


async def view(world: World, reference: str) -> dict[str, Any]:
    """Return what `list` says of a reference; nothing where it says nothing."""
    views = (await world.control_get("/publications"))["publications"]
    return next((dict(one) for one in views if one["reference"] == reference), {"state": ""})


async def is_in(world: World, state: str, reference: str = "app:1") -> dict[str, Any]:
    """Wait until a reference has a state, and return what is said of it."""

    async def has_it() -> bool:
        return bool((await view(world, reference))["state"] == state)

    await eventually(has_it, what=f"{reference} is {state}")
    return await view(world, reference)


def repositories(world: World) -> list[str]:
    return sorted(path.name for path in (world.tree / "repositories").iterdir() if path.is_dir())


async def test_pre_publish_is_asked_before_anything_is_exported(world: World, shelf: Shelf) -> None:
    async with world.podman(), world.service():
        first = world.double.build("localhost/app:1", "first")
        await world.shows({"app:1": first.id})
        held = shelf.hold("pre-publish", "05-hold")
        shelf.record("pre-publish")
        blobs = sorted((world.tree / "blobs/sha256").iterdir())
        made = world.double.build("localhost/app:1", "one", "two")
        await held.reached()
        assert len(world.double.log("saves")) == 1
        assert sorted((world.tree / "blobs/sha256").iterdir()) == blobs
        held.open()
        await world.shows({"app:1": made.id})
        await world.settled()
    (told,) = shelf.documents()
    assert (told["stage"], told["reference"], told["repository"], told["tag"]) == ("pre-publish", "app:1", "app", "1")
    assert (told["digest"], told["previousDigest"], told["layout"], told["attempt"]) == (None, first.digest, None, 1)
    assert told["trigger"] in ("event", "doorbell")
    image = told["image"]
    assert (image["id"], image["digest"], image["names"]) == (made.id, made.digest, ["localhost/app:1"])
    assert image["created"].startswith("20")


async def test_verify_gets_the_whole_image_as_a_layout_while_nothing_of_it_is_visible(
    world: World, shelf: Shelf
) -> None:
    shelf.record("verify", tree=world.tree / "repositories")
    held = shelf.hold("verify", "20-hold", then="echo 'CVE-1 in it' >&2; exit 1")
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1", "one", "two")
        await held.reached()
        assert (await world.get("/v2/app/manifests/1"))[0] == 404
        assert (await world.get(f"/v2/app/blobs/sha256:{made.layer_names[0]}"))[0] == 404
        held.open()
        denied = await is_in(world, "Denied")
        assert denied["message"] == "denied by 20-hold: CVE-1 in it"
        assert repositories(world) == []
        assert world.staged() == []
        await world.settled()
    (heard,) = shelf.heard()
    blobs = [f"blobs/sha256/{name}" for name in (*made.layer_names, made.id, made.digest.removeprefix("sha256:"))]
    assert heard["layout"] == sorted([*blobs, "index.json", "oci-layout"])
    assert not [path for path in heard["files"] if "/_oci/" in path]
    told = heard["document"]
    assert (told["digest"], told["fidelity"]) == (made.digest, "exact")


DENIALS = {
    "exit 1": "it gave no reason",
    "echo one >&2; echo two >&2; exit 1": "one",
    "echo said; exit 1": "it gave no reason",
    "echo broken >&2; exit 3": "exit code 3: broken",
    "kill -9 $$": "a signal ended it: 9",
    "/none/program": "exit code 127: ",
}


@pytest.mark.parametrize("stage", ["pre-publish", "verify"])
@pytest.mark.parametrize("body", DENIALS)
async def test_anything_but_0_denies_and_says_why(world: World, shelf: Shelf, stage: str, body: str) -> None:
    shelf.put(stage, "10-no", body)
    shelf.put(stage, "20-not-asked", f"echo asked >>{shelf.directory}/asked")
    async with world.podman(), world.service():
        world.double.build("localhost/app:1")
        denied = await is_in(world, "Denied")
        assert denied["message"].startswith(f"denied by 10-no: {DENIALS[body]}")
        assert world.shown() == {}
    assert shelf.lines("asked") == []


async def test_one_that_hangs_denies_after_ten_seconds_and_holds_up_nothing(world: World, shelf: Shelf) -> None:
    async with world.podman(), world.service():
        old = world.double.build("localhost/old:1")
        await world.shows({"old:1": old.id})
        shelf.put("pre-publish", "10-hangs", f"echo asked >>{shelf.directory}/asked\nsleep 300 & sleep 300")
        world.double.build("localhost/app:1")
        await eventually(lambda: shelf.lines("asked"))
        world.double.untag("localhost/old:1")
        await world.shows({})
        assert (await view(world, "app:1"))["state"] == "Pending"
        denied = await is_in(world, "Denied")
        assert denied["message"] == "denied by 10-hangs: it did not end within 10 s and was killed"


async def test_what_is_denied_during_a_pass_that_would_queue_it_is_asked_about_once(world: World, shelf: Shelf) -> None:
    asked = f"echo $PODBRIDGE_REFERENCE >>{shelf.directory}/asked"
    held = shelf.hold("pre-publish", "10-hold", then=f"{asked}; [ $PODBRIDGE_REFERENCE != app:1 ]")
    async with world.podman(), world.service():
        image = world.double.build("localhost/app:1")
        await held.reached()
        manifest = world.tree / "blobs" / image.digest.replace(":", "/")
        os.mkfifo(manifest)  # the next pass looks there whether the tree has the image, and waits
        other = world.double.build("localhost/other:1")
        writing = await opened_for_writing(manifest)
        manifest.unlink()
        held.open()
        await is_in(world, "Denied")
        os.close(writing)
        await world.shows({"other:1": other.id})
        await world.settled()
    assert sorted(shelf.lines("asked")) == ["app:1", "other:1"]


async def test_75_is_tried_again_with_backoff_and_then_allowed(
    world: World, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.put("verify", "10-later", f"[ -e {shelf.directory}/go ] || {{ echo 'scanner starts' >&2; exit 75; }}")
    shelf.record("verify", "05-record")
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        said = "hook 10-later asks for a later try: scanner starts"
        assert await world.failed("app:1") == said
        assert (await view(world, "app:1"))["state"] == "Failed"
        (shelf.directory / "go").touch()
        await world.shows({"app:1": made.id})
        await world.settled()
    first, *_, last = shelf.documents()
    assert (first["attempt"], last["trigger"]) == (1, "retry")
    assert last["attempt"] == len(shelf.documents()) > 1
    assert len([record for record in caplog.records if "scanner starts" in record.getMessage()]) == 1


async def test_a_denial_is_remembered_until_resync_a_changed_hook_or_another_image(world: World, shelf: Shelf) -> None:
    asked, count = f"echo $PODBRIDGE_IMAGE_ID >>{shelf.directory}/asked", 0
    path = shelf.put("pre-publish", "10-no", f"{asked}; echo no >&2; exit 1")
    async with world.podman(), world.service():
        first = world.double.build("localhost/app:1", "first")

        async def is_asked(image_id: str) -> None:
            nonlocal count
            count += 1
            await eventually(lambda: shelf.lines("asked")[count - 1 :] == [image_id], what=f"asked {count} times")
            await is_in(world, "Denied")

        await is_asked(first.id)
        for _ in range(3):  # passes
            before = world.listings()
            world.double.ring()
            await eventually(lambda before=before: world.listings() > before)  # type: ignore[misc]
        assert len(shelf.lines("asked")) == 1
        await world.control_do("POST", "/resync")
        await is_asked(first.id)
        os.utime(path)
        world.double.ring()
        await is_asked(first.id)
        (shelf.directory / "10-no.conf").write_text("A=1\n")
        world.double.ring()
        await is_asked(first.id)
        second = world.double.build("localhost/app:1", "second")
        await is_asked(second.id)
        path.unlink()
        world.double.ring()
        await world.shows({"app:1": second.id})
        assert len(shelf.lines("asked")) == count


async def test_a_denied_image_leaves_the_one_before_and_everybody_says_so(world: World, shelf: Shelf) -> None:
    async with world.podman(), world.service():
        old = world.double.build("localhost/app:1", "old")
        await world.shows({"app:1": old.id})
        shelf.put("verify", "10-no", "echo unsigned >&2; exit 1")
        new = world.double.build("localhost/app:1", "new")
        said = f"denied by 10-no: unsigned; what it showed before stays, image {old.id[:12]}"
        assert (await is_in(world, "Denied"))["message"] == said
        assert await world.pull("app", "1") == old.id
        await world.settled()
        status = await world.command("status")
        assert status.code == 0, "a denial is what somebody wanted"
        assert "published 1, 0 pending, 0 failed, 1 denied" in status.output
        assert (
            f"app:1 is denied; asked again when its image or a hook changes, or at `podbridge resync`\n    {said}"
            in (status.output)
        )
        assert said in (await world.command("list")).output
        assert f"→ app:1: denied, {said}" in (await world.command("explain", new.id)).output
        world.double.tag(old.id, "localhost/app:1")
        assert (await is_in(world, "Published"))["image"] == old.id


async def test_an_image_whose_bytes_the_tree_holds_is_asked_for_by_reference(world: World, shelf: Shelf) -> None:
    shelf.record("verify")
    shelf.put("verify", "20-no", '[ "$PODBRIDGE_REPOSITORY" = app ] || { echo other >&2; exit 1; }')
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1", "one", "two")
        await world.shows({"app:1": made.id})
        world.double.tag(made.id, "localhost/other:1")
        assert (await is_in(world, "Denied", "other:1"))["message"] == "denied by 20-no: other"
        world.double.tag(made.id, "localhost/app:2")
        await world.shows({"app:1": made.id, "app:2": made.id})
        assert repositories(world) == ["app"]
        assert len(world.double.log("saves")) == 1
    assert len({json.dumps(heard["layout"]) for heard in shelf.heard()}) == 1, "each saw the whole image"
    assert [told["reference"] for told in shelf.documents()] == ["app:1", "other:1", "app:2"]


async def test_what_is_asked_for_by_hand_is_asked_of_the_gates(world: World, shelf: Shelf) -> None:
    shelf.put("pre-publish", "10-no", f'echo "$PODBRIDGE_TRIGGER" >>{shelf.directory}/asked; echo no >&2; exit 1')
    async with world.podman(), world.service():
        made = world.double.build("<none>", "one")
        answer = await world.command("publish", made.id, "--as", "hotfix:1")
        assert (answer.code, "hotfix:1 is not published: denied by 10-no: no" in answer.errors) == (1, True)
        assert world.shown() == {}
    assert shelf.lines("asked") == ["request"]


async def test_what_a_reference_shows_already_is_not_asked_about_again(world: World, shelf: Shelf) -> None:
    shelf.record("pre-publish")
    world.settings["publish"] = [{"match": "*", "as": "{path}:{tag}"}]
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
    world.settings["publish"] = [{"match": "*", "as": "{path}:{tag}", "keep": "7d"}]
    async with world.podman(), world.service():
        await world.settled()
        assert (await view(world, "app:1"))["keep"] == 7 * 86400
    assert len(shelf.documents()) == 1


async def test_a_hook_that_goes_while_it_is_waited_for_is_not_missed(world: World, shelf: Shelf) -> None:
    held = shelf.hold("pre-publish", "10-hold")
    second = shelf.put("pre-publish", "20-no", "exit 1")
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await held.reached()
        second.unlink()
        held.open()
        await world.shows({"app:1": made.id})


async def test_a_refused_gate_is_not_run_and_named_once(
    world: World, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    path = shelf.put("pre-publish", "10-no", "exit 1")
    path.chmod(0o777)
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        listed = await world.command("hooks")
        assert "10-no  refused" in listed.output
        assert "can be written by its group or by others" in listed.output
        document = json.loads((await world.command("hooks", "--json")).output)
        assert [(one["name"], one["state"], one["path"]) for one in document["hooks"]] == [
            ("10-no", "refused", str(path))
        ]
    said = [record.getMessage() for record in caplog.records if "hook refused" in record.getMessage()]
    assert len(said) == 1
    assert str(path) in said[0]


async def test_without_hooks_the_verb_says_where_it_looked(world: World, shelf: Shelf) -> None:
    answer = await world.command("hooks")
    assert (answer.code, answer.errors) == (0, f"there are no hooks in {shelf.directory}\n")


async def test_a_stop_while_a_gate_hangs_leaves_nothing(world: World, shelf: Shelf) -> None:
    shelf.put("verify", "10-hangs", f"sleep 300 & echo $! $$ >{shelf.directory}/pids; wait")
    async with world.podman():
        async with world.service():
            world.double.build("localhost/app:1")
            await eventually(lambda: shelf.lines("pids"))
        for pid in shelf.lines("pids")[0].split():
            await eventually(lambda pid=pid: not running(pid))  # type: ignore[misc]
        assert world.staged() == []
        assert world.shown() == {}


async def test_podbridge_killed_while_a_hook_runs_leaves_none_running(world: World, shelf: Shelf) -> None:
    body = f"sleep 300 & echo $! $$ >{shelf.directory}/pids; wait"
    shelf.put("pre-publish", "10-hangs", body)
    async with world.podman():
        world.double.build("localhost/app:1")
        service = await world.start("serve")
        await eventually(lambda: shelf.lines("pids"))
        service.kill()
        await service.communicate()
        for pid in shelf.lines("pids")[0].split():
            await eventually(lambda pid=pid: not running(pid), what=f"{pid} has ended")  # type: ignore[misc]


def running(pid: str) -> bool:
    """Say whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or after
        return False


async def test_sync_asks_the_gates_and_says_what_they_denied(world: World, shelf: Shelf) -> None:
    shelf.put("pre-publish", "10-no", '[ "$PODBRIDGE_REPOSITORY" = good ] || { echo no >&2; exit 1; }')
    async with world.podman():
        good = world.double.build("localhost/good:1")
        world.double.build("localhost/app:1")
        answer = await world.command("sync")
        assert (answer.code, answer.output) == (1, f"1 published in {world.tree}, 1 denied\n")
        assert world.shown() == {"good:1": good.id}
        document = json.loads((await world.command("sync", "--json")).output)
        assert document == {"published": ["good:1"], "failures": {"app:1": "denied by 10-no: no"}}


async def test_passes_go_on_while_gates_are_slow(world: World, shelf: Shelf) -> None:
    held = shelf.hold("pre-publish", "10-hold")
    async with world.podman(), world.service():
        for number in range(4):
            world.double.build(f"localhost/app:{number}")
        await held.reached()
        before = world.listings()
        world.double.ring()
        await eventually(lambda: world.listings() > before, within=GATE_LIMIT / 2)
        held.open()
        await eventually(lambda: len(world.shown()) == 4)


async def test_a_denial_of_a_gate_that_was_replaced_while_it_ran_is_asked_again(world: World, shelf: Shelf) -> None:
    held = shelf.hold("pre-publish", "10-gate", then="exit 1")
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/app:1")
        await held.reached()
        shelf.put("pre-publish", "10-gate", "exit 0")
        await service.resync(prune=False)
        held.open()
        await world.shows({"app:1": made.id})
