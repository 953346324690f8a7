"""What is renamed or linked into the tree is on the disk before, and what is acknowledged or relied on stays there."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.chaos.ledger import Ledger
from tests.chaos.shim import Call, Shim
from tests.chaos.test_deletion import drive, root
from tests.faults.world import World

__all__ = ["root"]


def check(tree: Path, shim: Shim) -> int:
    """Follow the calls of one run; return how many files came into the tree."""
    ledger = Ledger(tree)
    for call in shim.calls():
        ledger.note(call)
    ledger.end()
    assert ledger.faults == []
    shim.clear()
    return ledger.renamed


async def over(shim: Shim, world: World, *words: str) -> int:
    """Run a command of podbridge over the shim; return its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *words, f"--config={world.configuration()}"),
        env=os.environ | shim.environment, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return await process.wait()


async def test_all_that_comes_into_the_tree_is_on_the_disk_before(world: World, tmp_path: Path) -> None:
    """Publish, move, withdraw, sweep, encode and repair, as the programs do it."""
    world.settings |= {"grace": "0s"}
    shim = Shim(tmp_path, f"{world.tree}*")
    async with world.podman():
        for tag in ("1", "2"):
            world.double.build(f"localhost/deep/app:{tag}", tag, size=200_000)
        world.double.build("localhost/other:1", "other")
        assert await over(shim, world, "sync", "--encode") == 0
        assert check(world.tree, shim) > 30
        world.double.build("localhost/deep/app:1", "moved")
        world.double.untag("localhost/other:1")
        assert await over(shim, world, "sync") == 0
        assert check(world.tree, shim) > 5
        assert await over(shim, world, "gc") == 0
        check(world.tree, shim)
        (blob, *_) = sorted((world.tree / "blobs/sha256").iterdir(), key=lambda path: -path.stat().st_size)
        blob.write_bytes(b"damaged")
        assert await over(shim, world, "verify", "--repair") == 1
        assert check(world.tree, shim) > 0
        assert await over(shim, world, "sync") == 0
        assert check(world.tree, shim) > 5


@pytest.mark.parametrize("error", ["", "EMLINK", "EPERM"])
def test_changes_of_the_tree_are_on_the_disk_also_where_blobs_are_copied(
    root: Path, tmp_path: Path, error: str
) -> None:
    (root / "repositories/other/_oci/index.json").write_text("{")
    shim = Shim(tmp_path, f"{root}*")
    if error:
        shim.fail("link", "*/repositories/*", error, times=0)
    words = ["publish:app:2=app", "publish:deep/er:1=app", "publish:other:1=app", "withdraw:app:1", "withdraw:app:2"]
    assert drive(root, shim, *words)[:5] == ["ok"] * 5
    assert check_staged(root, shim) > 20
    drive(root, shim, "sweep:-1", "discard:base")
    check_staged(root, shim)


def check_staged(tree: Path, shim: Shim) -> int:
    """The same; the tests' own maker of blobs does not wait for the disk, as an export does."""
    ledger = Ledger(tree)
    for call in shim.calls():
        ledger.note(call)
        if call.name in ("write", "open") and call.paths[0].endswith("/blob"):
            ledger.note(Call(call.pid, "fsync", call.paths))
    ledger.end()
    assert ledger.faults == []
    shim.clear()
    return ledger.renamed
