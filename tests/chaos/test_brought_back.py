"""A withdrawn repository that a power cut brings back, in part or whole, is no error: it is withdrawn again."""

import logging
import shutil
from pathlib import Path

import pytest

from tests.faults.world import World


def bring_back(world: World, copy: Path, *, with_links: bool, with_blobs: bool) -> None:
    """Have the repository app as it was, as far as the disk had not heard of what went."""
    shutil.copytree(copy / "repositories/app", world.tree / "repositories/app", symlinks=True, dirs_exist_ok=True)
    if not with_links:
        shutil.rmtree(world.tree / "repositories/app/_oci/blobs")
    if with_blobs:
        shutil.copytree(copy / "blobs", world.tree / "blobs", dirs_exist_ok=True)


@pytest.mark.parametrize(("with_links", "with_blobs"), [(True, True), (True, False), (False, True)])
async def test_a_withdrawn_repository_that_a_crash_brings_back_is_withdrawn_without_an_error(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, with_links: bool, with_blobs: bool
) -> None:
    world.settings |= {"grace": "0s"}
    async with world.podman():
        made = world.double.build("localhost/app:1")
        other = world.double.build("localhost/other:1", "other")
        async with world.service():
            await world.shows({"app:1": made.id, "other:1": other.id})
            shutil.copytree(world.tree, tmp_path / "copy", symlinks=True)
        world.double.remove(made.id)
        assert (await world.command("sync")).code == 0
        assert (await world.command("gc")).code == 0
        bring_back(world, tmp_path / "copy", with_links=with_links, with_blobs=with_blobs)
        async with world.service():
            await world.shows({"other:1": other.id})
            await world.settled()
        assert (await world.command("gc")).code == 0
        assert (await world.command("verify")).output == "the tree is whole\n"
    assert not (world.tree / "repositories/app").exists()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
