"""What cannot be read for a moment is not lost: nothing is withdrawn, written over or removed for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import TreeError
from bridge.oci import Digest
from bridge.service import healing
from bridge.tree import disk
from bridge.tree.contents import shown
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree
from bridge.tree.verify import repair, verify
from tests.chaos import ground
from tests.chaos.shim import Shim

SHOWN = {"app:1": "one", "app:2": "two", "deep/er/app:1": "three"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with three publications."""
    ground.make(tmp_path / "t", SHOWN)
    return tmp_path / "t"


def drive(root: Path, shim: Shim, *words: str) -> subprocess.CompletedProcess[str]:
    """Do things to the tree over the shim."""
    command = [sys.executable, "-m", "tests.chaos.drive", str(root), *words]
    here = Path(__file__).parents[2]
    return subprocess.run(
        command, env=os.environ | shim.environment, cwd=here, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("action", ["EIO", "EMFILE"])
@pytest.mark.parametrize(
    "glob", ["*/repositories", "*/repositories/app", "*/deep/er", "*/index.json", "*/blobs/sha256/*", "*/_oci/blobs/*"]
)
def test_an_error_that_does_not_stay_takes_nothing_from_the_tree(
    root: Path, tmp_path: Path, glob: str, action: str
) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    blobs = {path.name for path in (root / "blobs/sha256").iterdir()}
    for first in (1, 2, 3):
        shim.clear()
        shim.fail("open-read", glob, action, first=first)
        drive(root, shim, "publish:app:3=new", "sweep:-1")
        assert SHOWN.items() <= ground.served(root).items()
        assert blobs <= {path.name for path in (root / "blobs/sha256").iterdir()}


@pytest.mark.parametrize("glob", ["*/repositories/app", "*/repositories/deep"])
def test_while_a_directory_cannot_be_read_nothing_is_swept(root: Path, tmp_path: Path, glob: str) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    before = {path.name for path in (root / "blobs/sha256").iterdir()}
    with Tree(root) as tree:
        ground.publish(tree, "app:2", "newer")
    shim.fail("open-read", glob, "EIO", times=0)
    done = drive(root, shim, "sweep:-1")
    assert "Input/output error" in done.stdout + done.stderr
    assert before <= {path.name for path in (root / "blobs/sha256").iterdir()}
    assert {reference: word for reference, word in ground.served(root).items() if reference != "app:2"} == {
        reference: word for reference, word in SHOWN.items() if reference != "app:2"
    }


def test_a_blob_that_cannot_be_opened_for_want_of_descriptors_is_not_taken_for_damaged(
    root: Path, tmp_path: Path
) -> None:
    name = Digest.of(b"base").hex
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("open-read", f"*/{name}", "EMFILE", times=0)
    drive(root, shim, "discard:base")
    assert (root / "blobs/sha256" / name).exists()
    assert ground.served(root) == SHOWN


def test_an_index_that_the_disk_has_lost_for_good_is_damaged(root: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("open-read", "*/app/_oci/index.json", "EIO", times=0)
    index = TreePaths(root).repositories / "app/_oci/index.json"
    program = f"from bridge.tree import disk; from pathlib import Path; disk.read(Path({str(index)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | shim.environment, capture_output=True, text=True, check=False
    )
    assert TreeError.__name__ in done.stderr
    assert "podbridge verify --repair" in done.stderr
    assert disk.read(index)


@pytest.mark.parametrize("damage", ["lost", "empty"])
def test_a_layout_that_a_power_cut_took_is_told_by_verify_and_made_by_the_next_start(root: Path, damage: str) -> None:
    layout = root / "repositories/app/_oci/oci-layout"
    if damage == "lost":
        layout.unlink()
    else:
        layout.write_bytes(b"")
    faults = list(verify(root))
    assert [str(fault) for fault in faults] == ["repository app: oci-layout is lost or damaged"]
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    repair(copy, faults)
    with Tree(root):
        assert list(verify(root)) == []
    assert list(verify(copy)) == []


def test_what_a_killed_scrub_left_is_removed_by_the_next_start(root: Path) -> None:
    paths = TreePaths(root)
    healing.save(paths, healing.load(paths))
    (paths.scrub / "123-state.json").write_bytes(b"{")
    healing.load(paths)
    assert [path.name for path in paths.scrub.iterdir()] == ["state.json"]
    assert len(shown(root).publications) == len(SHOWN)
