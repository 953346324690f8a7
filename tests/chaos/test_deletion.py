"""A deletion trusts the disk: whatever fails, what an index references stays, and a reader finds all of it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.errors import TreeError, UndecidedError
from bridge.oci import Digest, Reference
from bridge.tree.contents import read_index, repositories, shown
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree
from bridge.tree.sweeping import Swept
from bridge.tree.verify import Copies, copies, repair, verify
from tests.chaos.shim import Call, Shim
from tests.tree import making


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with a publication of app:1 and one of other:1."""
    with Tree(tmp_path / "t") as tree:
        for name in ("app", "other"):
            tree.publish(making.publication(f"{name}:1", making.image(tree, b"base", name.encode(), note=name)))
    return tmp_path / "t"


def drive(root: Path, shim: Shim, *words: str) -> list[str]:
    """Do things to the tree over the shim; return what came of each, and what is shown in memory after."""
    command = [sys.executable, "-m", "tests.chaos.drive", str(root), *words]
    here = Path(__file__).parents[2]
    done = subprocess.run(
        command, env=os.environ | shim.environment, cwd=here, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def is_whole(root: Path) -> bool:
    """Return True if everything that any index references is there, byte by byte."""
    return all(
        making.whole(root, descriptor, repository.name)
        for repository in repositories(TreePaths(root))
        for descriptor in read_index(TreePaths(root), repository).descriptors
    )


FAULTS = [
    ("fsync", "*/repositories/app/_oci", "EIO"),
    ("open-read", "*/repositories/app/_oci", "EMFILE"),
    ("fsync", "*-index.json", "EIO"),
    ("rename", "*/repositories/app/_oci/index.json", "EIO"),
    ("open", "*-index.json", "ENOSPC"),
    ("write", "*-index.json", "ENOSPC"),
    ("link", "*/repositories/app/_oci/*", "EIO"),
    ("fsync", "*/repositories/app/_oci/blobs/sha256", "EIO"),
    ("symlink", "*", "EROFS"),
    ("rename", "*/_tags.json", "EIO"),
    ("unlink", "*/_references/*", "EIO"),
]


@pytest.mark.parametrize(("call", "glob", "action"), FAULTS)
@pytest.mark.parametrize(
    "change", ["publish:app:1=new", "publish:app:2=new", "withdraw:app:1", "publish:fresh/app:1=new"]
)
def test_a_sweep_after_a_write_that_failed_takes_nothing_that_the_disk_shows(
    root: Path, tmp_path: Path, call: str, glob: str, action: str, change: str
) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail(call, glob.replace("/app/", "/*app/"), action)
    *results, remembered = drive(root, shim, change, "sweep:-1", "derive")
    assert results[-1] == "ok"
    assert is_whole(root)
    assert remembered.split()[1:] == sorted(map(str, shown(root).publications)), "memory and disk agree"
    assert list(verify(root)) == []


@pytest.mark.parametrize(("call", "glob", "action"), FAULTS[:4])
@pytest.mark.parametrize("change", ["publish:app:2=new", "withdraw:app:1"])
def test_after_a_write_that_failed_memory_is_what_the_disk_says_at_once(
    root: Path, tmp_path: Path, call: str, glob: str, action: str, change: str
) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail(call, glob, action)
    *_, remembered = drive(root, shim, change)
    assert remembered.split()[1:] == sorted(map(str, shown(root).publications))


def changes(root: Path, tmp_path: Path, *words: str) -> list[Call]:
    """Return the calls that a run makes on a copy of the tree, so that each can fail in turn."""
    copy = tmp_path / "counted"
    shutil.copytree(root, copy, symlinks=True)
    shim = Shim(tmp_path, f"{copy}/*")
    drive(copy, shim, *words)
    return shim.calls()


@pytest.mark.parametrize("action", ["EIO", "KILL"])
def test_whichever_call_fails_or_is_the_last_nothing_that_is_shown_is_lost(
    root: Path, tmp_path: Path, action: str
) -> None:
    words = ["publish:app:1=new", "withdraw:other:1", "sweep:-1"]
    count = len(changes(root, tmp_path, *words))
    assert count > 100
    for number in range(1, count, 7 if action == "EIO" else 11):
        tree = tmp_path / f"t{number}"
        shutil.copytree(root, tree, symlinks=True)
        shim = Shim(tmp_path, f"{tree}/*")
        shim.fail("*", "*", action, first=number)
        subprocess.run(
            [sys.executable, "-m", "tests.chaos.drive", str(tree), *words],
            env=os.environ | shim.environment, cwd=Path(__file__).parents[2], capture_output=True, check=False,
        )  # fmt: skip
        assert is_whole(tree), f"after {action} in call {number}"
        with Tree(tree) as opened:
            opened.sweep(-1)
        assert list(verify(tree)) == [], f"after {action} in call {number}"
        shutil.rmtree(tree)


@pytest.mark.parametrize("damage", ["{", "", '{"manifests": [3]}'])
def test_while_an_index_cannot_be_read_no_blob_is_removed_and_nothing_of_its_repository(
    root: Path, damage: str
) -> None:
    index = root / "repositories/app/_oci/index.json"
    with Tree(root) as tree:
        tree.withdraw(Reference.parse("other:1"))
        index.write_text(damage)
        before = {path for path in root.rglob("*") if path.is_file() and ("app" in path.parts or "blobs" in path.parts)}
        with pytest.raises(TreeError, match=r"repository app: index\.json is damaged"):
            tree.sweep(-1)
        assert not (root / "repositories/other").exists(), "the sweep goes on past it"
        kept = {path for path in before if "repositories/other" not in str(path)}
        assert all(path.exists() for path in kept)
        tree.publish(making.publication("app:1", making.image(tree, b"base", b"app", note="app")))
        with pytest.raises(UndecidedError):
            tree.sweep(-1)
        assert all(path.exists() for path in kept)
    repair(root, list(verify(root)))
    assert list(verify(root)) == []


def test_a_sweep_reads_what_another_program_wrote_into_an_index(root: Path) -> None:
    index = root / "repositories/app/_oci/index.json"
    with Tree(root) as tree:
        before = index.read_bytes()
        tree.withdraw(Reference.parse("app:1"))
        index.write_bytes(before)
        tree.sweep(-1)
        assert Reference.parse("app:1") in tree.shown.publications
    assert is_whole(root)
    assert list(verify(root)) == []


def test_links_that_no_index_references_have_their_grace(root: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("rename", "*/index.json", "EIO", times=0)
    drive(root, shim, "publish:app:2=new", "publish:fresh:1=newer", "sweep:3600")
    links = [root / f"repositories/{name}/_oci/blobs/sha256/{Digest.of(content).hex}"
             for name, content in (("app", b"new"), ("fresh", b"newer"))]  # fmt: skip
    assert all(link.exists() for link in links)
    with Tree(root) as tree:
        assert tree.sweep(3600) == Swept()
        assert all(link.exists() for link in links)
        assert tree.sweep(-1).blobs == 6
    assert not any(link.exists() for link in links)
    assert not (root / "repositories/fresh").exists()
    assert list(verify(root)) == []


def test_what_a_damaged_publication_leaves_behind_has_its_grace(root: Path) -> None:
    lost, left = Digest.of(b"app").hex, root / "repositories/app/_oci/blobs/sha256" / Digest.of(b"base").hex
    for blobs in ("blobs", "repositories/app/_oci/blobs"):
        (root / blobs / "sha256" / lost).unlink()
    time.sleep(1.1)  # the age of a link is that of its last change, which no test can set
    with Tree(root) as tree:
        assert tree.sweep(1) == Swept()
        assert left.exists()


def copied(root: Path, how: str) -> Path:
    """Copy a tree without its hard links."""
    copy = root.with_name("copy")
    command = {"cp": ["cp", "-r", root, copy], "rsync": ["rsync", "-a", f"{root}/", copy], "tar": []}[how]
    if how == "tar":
        shutil.copytree(root, copy, symlinks=True)
    else:
        subprocess.run(list(map(str, command)), check=True)
    return copy


@pytest.mark.parametrize("how", ["cp", "rsync", "tar"])
def test_a_tree_that_was_copied_without_hard_links_loses_nothing_to_a_sweep_and_is_linked_by_a_repair(
    root: Path, how: str
) -> None:
    if shutil.which(how) is None:
        pytest.skip(f"{how} is not installed")
    copy = copied(root, how)
    with Tree(copy) as tree:
        tree.withdraw(Reference.parse("other:1"))
        assert tree.sweep(-1).manifests == 1
        assert not tree.has(Digest.of(b"other"))
        tree.publish(making.publication("third:1", making.image(tree, b"base", b"third")))
    assert is_whole(copy)
    assert list(verify(copy)) == []
    repair(copy, [])
    assert copies(copy) == Copies()


def test_a_blob_that_was_repaired_by_hand_is_no_reason_to_take_it(root: Path) -> None:
    blob = root / "blobs/sha256" / Digest.of(b"base").hex
    blob.unlink()
    blob.write_bytes(b"base")
    os.utime(blob, (0, 0))
    with Tree(root) as tree:
        assert tree.sweep(-1).blobs == 0
    assert is_whole(root)
    assert list(verify(root)) == []


def test_a_tree_in_the_lower_layer_of_an_overlay_loses_nothing_to_a_sweep(root: Path, tmp_path: Path) -> None:
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={root},upperdir={tmp_path}/upper,workdir={tmp_path}/work,index=off"
    merged = tmp_path / "merged"
    mounted = subprocess.run(["mount", "-t", "overlay", "podbridge-test", "-o", options, str(merged)], check=False)
    if mounted.returncode:
        pytest.skip("no overlay can be mounted here, over this file system")
    try:
        with Tree(merged) as tree:
            tree.publish(making.publication("third:1", making.image(tree, b"base", b"third")))
            tree.withdraw(Reference.parse("other:1"))
            tree.sweep(-1)
        assert is_whole(merged)
        assert list(verify(merged)) == []
    finally:
        subprocess.run(["umount", str(merged)], check=True)


def test_what_is_staged_is_safe_from_a_sweep_and_what_is_not_in_use_is_emptied(root: Path) -> None:
    with Tree(root) as tree, tree.stage() as directory:
        (directory / Digest.of(b"under way").hex).write_bytes(b"under way")
        tree.adopt(directory / Digest.of(b"under way").hex, Digest.of(b"under way"))
        (tree.paths.staging / "left").mkdir()
        (tree.paths.staging / "left" / "file").touch()
        (tree.paths.staging / "123-index.json").touch()
        assert tree.sweep(-1).blobs == 0
        assert tree.has(Digest.of(b"under way"))
        assert [path.name for path in tree.paths.staging.iterdir()] == [directory.name]


@pytest.mark.parametrize(("call", "action"), [("unlink", "EIO"), ("rmdir", "EIO"), ("open-read", "EMFILE")])
def test_staging_that_could_not_be_emptied_is_emptied_by_the_next_sweep(
    root: Path, tmp_path: Path, call: str, action: str
) -> None:
    shim = Shim(tmp_path, f"{root}/staging/*")
    shim.fail(call, f"{root}/staging/" + ("?" * 8 if call == "open-read" else "*"), action)  # or its directory alone
    assert drive(root, shim, "publish:app:2=new", "sweep:-1")[:2] == ["ok", "ok"]
    assert list((root / "staging").iterdir()) == []
    assert is_whole(root)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the wall clock is ahead of the true time, in seconds, in a list of one."""
    ahead, true = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: true() + ahead[0])
    return ahead


@pytest.mark.parametrize("change", ["move", "withdraw"])
def test_a_clock_that_jumps_ahead_takes_nothing_that_was_just_superseded(
    root: Path, clock: list[float], change: str
) -> None:
    old = shown(root).publications[Reference.parse("app:1")].descriptor
    with Tree(root) as tree:
        if change == "move":
            tree.publish(making.publication("app:1", making.image(tree, b"new")))
        else:
            tree.withdraw(Reference.parse("app:1"))
        clock[0] = 7200
        assert tree.sweep(3600) == Swept()
        assert making.whole(root, old, "app")


def test_what_was_superseded_before_a_start_grows_old_by_no_more_than_the_time_that_passes(
    root: Path, clock: list[float]
) -> None:
    with Tree(root) as tree:
        tree.withdraw(Reference.parse("app:1"))
    clock[0] = 1800
    with Tree(root) as tree:
        clock[0] = 9000
        assert tree.sweep(3600) == Swept()
        assert tree.sweep(1700).manifests == 1


def test_a_time_in_the_future_is_no_reason_to_keep_something_for_ever(root: Path, clock: list[float]) -> None:
    clock[0] = 10**8
    with Tree(root) as tree:
        tree.withdraw(Reference.parse("app:1"))
    clock[0] = 0
    with Tree(root) as tree:
        assert tree.sweep(3600) == Swept()
        assert tree.sweep(-1).manifests == 1
