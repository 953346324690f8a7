"""The tree's disk is full or does not take writes: everything published stays served, and the rest is tried again."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.asking import ask, publish
from tests.double.gates import eventually
from tests.faults.world import World

MEGABYTE = 1 << 20


@pytest.fixture
def small(world: World) -> Iterator[World]:
    """A world whose tree is on a file system of one megabyte, where no encoding comes and goes in the background."""
    mount = world.directory / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "podbridge-test", str(mount)], check=True)
    world.settings |= {"tree": str(mount / "tree"), "encodings": {"space": "0MB"}}
    try:
        yield world
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def grow(world: World) -> None:
    """Make the small disk larger."""
    subprocess.run(["mount", "-o", "remount,size=16m", str(world.directory / "disk")], check=True)


def limit_files(world: World, free: int) -> None:
    """Have the small disk take so many more files."""
    mount = world.directory / "disk"
    status = os.statvfs(mount)
    limit = f"remount,nr_inodes={status.f_files - status.f_ffree + free}"
    subprocess.run(["mount", "-o", limit, str(mount)], check=True)


async def fill(world: World) -> Path:
    """Take what is left of the small disk, to the last byte."""
    await eventually(lambda: world.staged() == [])
    filler = world.directory / "disk" / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            while True:
                try:
                    if file.write(b"x" * size) < size:
                        break
                except OSError:
                    break
    return filler


async def test_an_image_that_does_not_fit_fails_with_podmans_words_and_is_published_when_there_is_room(
    small: World,
) -> None:
    async with small.podman(), small.service():
        old = small.double.build("localhost/old:1")
        await small.shows({"old:1": old.id})
        new = small.double.build("localhost/new:1", "new", size=2 * MEGABYTE)
        assert "no space left on device" in await small.failed("new:1")
        await eventually(lambda: small.staged() == [], what="no staging stays, but that of a try under way")
        assert await small.pull("old", "1") == old.id
        grow(small)
        await small.shows({"old:1": old.id, "new:1": new.id})
        await small.settled()


async def test_an_index_that_cannot_be_written_fails_with_words_and_leaves_the_old_one(small: World) -> None:
    async with small.podman(), small.service():
        made = small.double.build("localhost/app:1")
        await small.shows({"app:1": made.id})
        filler = await fill(small)
        small.double.tag(made.id, "localhost/app:2", "localhost/other:1")
        for reference in ("app:2", "other:1"):
            assert "No space left on device" in await small.failed(reference)
        assert (await small.condition("TreeWritable"))["status"] is False
        assert small.shown() == {"app:1": made.id}
        assert await small.pull("app", "1") == made.id
        assert (await small.get("/v2/other/tags/list"))[0] == 404
        filler.unlink()
        await small.shows({"app:1": made.id, "app:2": made.id, "other:1": made.id})
        await small.settled()
        assert (await small.condition("TreeWritable"))["status"] is True
    assert (await small.command("verify")).output == "the tree is whole\n"


async def test_a_withdrawal_that_cannot_be_written_is_tried_again(small: World) -> None:
    async with small.podman(), small.service():
        made = small.double.build("localhost/app:1")
        small.double.tag(made.id, "localhost/app:2")
        await small.shows({"app:1": made.id, "app:2": made.id})
        filler = await fill(small)
        small.double.untag("localhost/app:2")

        async def unwritable() -> bool:
            return (await small.condition("TreeWritable"))["status"] is False

        await eventually(unwritable)
        assert small.shown() == {"app:1": made.id, "app:2": made.id}
        filler.unlink()
        await small.shows({"app:1": made.id})


async def test_what_is_held_and_cannot_be_let_through_is_told_to_who_asks(small: World) -> None:
    async with small.podman(), small.service():
        small.double.build("localhost/app:1")
        await eventually(lambda: small.shown().keys() == {"app:1"})
        assert (await ask(small, "DELETE", "publications/app:1?hold=true")).status == 204
        filler = await fill(small)
        refused = await publish(small, {"image": "app:1"})
        told = "app:1 stays held: No space left on device"
        assert (refused.status, refused.json["message"].startswith(told)) == (409, True)
        filler.unlink()
        assert (await publish(small, {"image": "app:1"})).status == 201


async def test_a_start_on_a_full_disk_serves_what_is_there(small: World) -> None:
    async with small.podman():
        async with small.service():
            made = small.double.build("localhost/app:1")
            await small.shows({"app:1": made.id})
        filler = await fill(small)
        small.double.build("localhost/new:1")
        async with small.service(ready=0):
            assert await small.pull("app", "1") == made.id
            await small.failed("new:1")
            filler.unlink()
            await eventually(lambda: len(small.shown()) == 2)


async def test_a_start_on_a_full_disk_that_has_to_mend_serves_what_is_there_and_mends_when_there_is_room(
    small: World,
) -> None:
    small.settings |= {"resync": "1s"}
    async with small.podman():
        async with small.service():
            made = small.double.build("localhost/app:1")
            await small.shows({"app:1": made.id})
        catalog = small.tree / "repositories/_catalog.json"
        catalog.unlink()
        filler = await fill(small)
        async with small.service(ready=0):
            assert await small.pull("app", "1") == made.id
            assert (await small.condition("TreeWritable"))["status"] is False
            filler.unlink()

            async def writable() -> bool:
                return (await small.condition("TreeWritable"))["status"] is True

            await eventually(writable)
            assert catalog.exists()
            await small.shows({"app:1": made.id})


async def test_a_sweep_that_fails_does_not_end_the_service_and_is_tried_again(small: World) -> None:
    small.settings["resync"] = "1s"
    async with small.podman(), small.service() as service:
        old = small.double.build("localhost/app:1", "old")
        await small.shows({"app:1": old.id})
        new = small.double.build("localhost/app:1", "new")
        await small.shows({"app:1": new.id})
        filler = await fill(small)
        small.grace(service, 0)

        async def sweep_has_failed() -> bool:
            return (await small.condition("TreeWritable"))["status"] is False

        await eventually(sweep_has_failed)
        assert await small.pull("app", "1") == new.id
        filler.unlink()
        await eventually(lambda: not (small.tree / "blobs/sha256" / old.id).exists())
        assert small.shown() == {"app:1": new.id}


async def test_a_sweep_of_a_disk_without_any_room_frees_what_it_can_and_so_makes_room_for_the_rest(
    small: World,
) -> None:
    small.settings |= {"grace": "1h"}
    async with small.podman(), small.service() as service:
        old = small.double.build("localhost/app:1", "old", size=50_000)
        await small.shows({"app:1": old.id})  # the first is swept first: what goes of the other makes no room for it
        gone = small.double.build("localhost/gone:1", "gone", size=50_000)
        await small.shows({"app:1": old.id, "gone:1": gone.id})
        new = small.double.build("localhost/app:1", "new", size=50_000)
        small.double.untag("localhost/gone:1")
        await small.shows({"app:1": new.id})
        await fill(small)
        blobs = small.tree / "blobs/sha256"
        tree = service.reconciler.parts.tree
        with pytest.raises(OSError, match="No space left on device"):
            await asyncio.to_thread(tree.sweep, 0)
        assert not (blobs / gone.layer_names[0]).exists()
        assert (await asyncio.to_thread(tree.sweep, 0)).manifests == 1
        assert not (blobs / old.layer_names[0]).exists()
        assert await small.pull("app", "1") == new.id


async def test_a_tree_that_takes_no_writes_is_told_and_used_again_when_it_does(world: World) -> None:
    async with world.podman(), world.service():
        old = world.double.build("localhost/old:1")
        await world.shows({"old:1": old.id})
        await eventually(lambda: world.staged() == [])
        (world.tree / "staging").rmdir()
        (world.tree / "staging").touch()
        new = world.double.build("localhost/new:1")
        assert "Not a directory" in await world.failed("new:1")
        assert await world.pull("old", "1") == old.id
        (world.tree / "staging").unlink()
        (world.tree / "staging").mkdir()
        await world.shows({"old:1": old.id, "new:1": new.id})


async def test_a_tree_that_cannot_be_made_is_one_line_at_the_start(world: World) -> None:
    (world.directory / "file").touch()
    world.settings["tree"] = str(world.directory / "file" / "tree")
    async with world.podman():
        answer = await world.command("serve")
    assert answer.code == 1
    assert answer.errors.count("\n") == 1
    assert "Not a directory" in answer.errors


async def test_what_plain_web_servers_read_is_made_again_when_the_disk_has_room(small: World) -> None:
    small.settings |= {"resync": "1s"}
    async with small.podman(), small.service():
        made = small.double.build("localhost/app:1")
        await small.shows({"app:1": made.id})
        await eventually(lambda: small.staged() == [])
        limit_files(small, free=1)
        small.double.tag(made.id, "localhost/app:2")
        await eventually(lambda: "app:2" in small.shown())  # the index was the last for which there was room

        async def unwritable() -> bool:
            return (await small.condition("TreeWritable"))["status"] is False

        await eventually(unwritable)
        limit_files(small, free=1000)
        tags = small.tree / "repositories/app/_tags.json"
        await eventually(lambda: json.loads(tags.read_bytes())["tags"] == ["1", "2"])
        await eventually(small.has_no_failure)
        await small.settled()


async def test_a_tree_counts_as_writable_again_when_nothing_waits_to_be_written(small: World) -> None:
    small.settings |= {"resync": "1s"}
    async with small.podman(), small.service():
        made = small.double.build("localhost/app:1")
        await small.shows({"app:1": made.id})
        filler = await fill(small)
        small.double.tag(made.id, "localhost/app:2")
        await small.failed("app:2")
        small.double.untag("localhost/app:2")
        await eventually(small.has_no_failure, what="a pass sees that the name is gone")
        filler.unlink()

        async def writable() -> bool:
            return (await small.condition("TreeWritable"))["status"] is True

        await eventually(writable)
        assert small.shown() == {"app:1": made.id}
