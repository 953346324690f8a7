"""What the disk loses comes back by itself: it is never served wrong, it is said, and it is exported again."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.tree.verify import verify
from tests.chaos.shim import Shim
from tests.double.gates import eventually
from tests.faults.world import World, sha256

LARGE = 300_000


def places(world: World, digest: str) -> list[Path]:
    """Return every file of the tree that a blob has."""
    name = digest.removeprefix("sha256:")
    return [path for part in ("blobs", "repositories") for path in (world.tree / part).rglob(name)]


def blobs_of(world: World, repository: str, tag: str) -> dict[str, str]:
    """Return the digests of an image's manifest, config and first layer."""
    layout = world.tree / "repositories" / repository / "_oci"
    (digest,) = [
        entry["digest"]
        for entry in json.loads((layout / "index.json").read_bytes())["manifests"]
        if entry["annotations"].get("org.opencontainers.image.ref.name") == tag
    ]
    manifest = json.loads((layout / "blobs" / digest.replace(":", "/")).read_bytes())
    return {"manifest": digest, "config": manifest["config"]["digest"], "layer": manifest["layers"][0]["digest"]}


def damage(path: Path) -> None:
    """Flip a byte, with the size and the times as they were."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
async def test_a_damaged_blob_is_not_served_and_is_exported_again(world: World, what: str) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        digest = blobs_of(world, "app", "1")[what]
        damage(places(world, digest)[0])
        kind = "manifests" if what == "manifest" else "blobs"
        status, content = await world.get(f"/v2/app/{kind}/{digest}")
        assert status == 500 or sha256(content) == digest

        async def served() -> bool:
            status, content = await world.get(f"/v2/app/{kind}/{digest}")
            assert status in (404, 500) or sha256(content) == digest
            return status == 200

        await eventually(served, what="the blob is served again")

        async def whole() -> bool:
            return bool((await world.condition("TreeWhole"))["status"])

        await eventually(whole, what="TreeWhole")
        assert await world.pull("app", "1") == made.id
    assert list(verify(world.tree)) == []


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("loss", ["tree", "both", "cut"])
async def test_a_lost_blob_comes_back_with_a_tag_in_another_repository(world: World, what: str, loss: str) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        digest = blobs_of(world, "app", "1")[what]
        for path in places(world, digest):
            if loss == "cut":
                os.truncate(path, 1)
            elif loss == "both" or path.parent == world.tree / "blobs/sha256":
                path.unlink()
        world.double.tag(made.id, "localhost/other/b:1")
        index = world.tree / "repositories/other/b/_oci/index.json"
        await eventually(index.exists)
        assert await world.pull("other/b", "1") == made.id


@pytest.mark.parametrize("loss", ["missing", "cut"])
async def test_a_blob_that_is_lost_everywhere_is_found_by_a_sweep_and_exported_again(world: World, loss: str) -> None:
    world.settings |= {"resync": "1s"}
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1", size=LARGE)
        await world.shows({"app:1": made.id})
        for path in places(world, blobs_of(world, "app", "1")["layer"]):
            if loss == "missing":
                path.unlink()
            else:
                os.truncate(path, 100)

        async def healed() -> bool:
            try:
                return await world.pull("app", "1") == made.id
            except AssertionError:
                return False

        await eventually(healed, what="the layer is there again")
    assert list(verify(world.tree)) == []


async def test_the_scrub_finds_a_large_blob_that_is_damaged_and_tells_how_far_it_is(world: World) -> None:
    world.settings |= {"scrub": {"every": "1s", "rate": "1000MB"}, "encodings": {"space": "0MB"}}
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1", size=LARGE)
        await world.shows({"app:1": made.id})
        digest = blobs_of(world, "app", "1")["layer"]
        damage(places(world, digest)[0])

        async def healed() -> bool:
            return sha256(places(world, digest)[0].read_bytes()) == digest if places(world, digest) else False

        await eventually(healed, what="the scrub has found it")
        await world.shows({"app:1": made.id})

        async def told() -> bool:
            scrub = (await world.status())["scrub"]
            return bool(scrub["blobs"] >= 3 and scrub["read"] > LARGE and scrub["damaged"] == 0)

        await eventually(told, what="a scrub that found nothing")
        assert (world.tree / "scrub/state.json").exists()


@pytest.fixture
def protected(world: World) -> Iterator[World]:
    """A world whose tree is on a file system of its own, which can be mounted read-only."""
    mount = world.directory / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "podbridge-test", str(mount)], check=True)
    world.settings |= {"tree": str(mount / "tree"), "resync": "1s"}
    try:
        yield world
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def remount(world: World, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(world.directory / "disk")], check=True)


async def test_a_tree_that_can_only_be_read_is_served_and_written_when_it_can_be(protected: World) -> None:
    async with protected.podman():
        async with protected.service():
            made = protected.double.build("localhost/app:1")
            await protected.shows({"app:1": made.id})
        remount(protected, "ro")
        new = protected.double.build("localhost/new:1", "new")
        async with protected.service(ready=0):
            assert await protected.pull("app", "1") == made.id
            found = await protected.condition("TreeWritable")
            assert found["status"] is False
            assert (await protected.command("sync")).code == 1
            assert "Read-only file system" in await protected.failed("new:1")
            remount(protected, "rw")
            await protected.shows({"app:1": made.id, "new:1": new.id})
            await protected.settled()


@pytest.mark.parametrize(("call", "glob", "action"), [
    ("rename", "*/index.json", "EIO"), ("fsync", "*/app/_oci", "EIO"), ("open", "*-index.json", "ENOSPC"),
])  # fmt: skip
async def test_sync_fails_when_a_withdrawal_cannot_be_written(
    world: World, tmp_path: Path, call: str, glob: str, action: str
) -> None:
    shim = Shim(tmp_path, f"{world.tree}/*")
    async with world.podman():
        made = world.double.build("localhost/app:1")
        world.double.tag(made.id, "localhost/app:2")
        assert (await world.command("sync")).code == 0
        world.double.untag("localhost/app:2")
        shim.fail(call, glob, action)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "sync", f"--config={world.configuration()}"),
            env=os.environ | shim.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert process.returncode == 1, output + errors
        assert b"not all could be written" in output
        assert (await world.command("sync")).code == 0
    assert world.shown() == {"app:1": made.id}
