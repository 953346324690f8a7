"""An index that cannot be read is never lost: it is kept, and so is every blob, until an operator decides."""

from pathlib import Path

import pytest

from bridge.errors import UndecidedError
from bridge.oci import Digest, Reference
from bridge.tree import setting_aside
from bridge.tree.contents import shown
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree
from bridge.tree.verify import repair, verify
from tests.chaos.shim import Shim
from tests.chaos.test_deletion import drive, is_whole
from tests.tree import making


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with app:1, an app:kept whose image has gone, and app:out, which is held."""
    with Tree(tmp_path / "t") as tree:
        for tag in ("1", "kept", "out"):
            layer = tag.encode() * 100
            tree.publish(making.publication(f"deep/app:{tag}", making.image(tree, b"base", layer, note=tag)))
        tree.orphan(Reference.parse("deep/app:kept"))
        tree.withdraw(Reference.parse("deep/app:out"), hold=True)
    return tmp_path / "t"


def index(root: Path) -> Path:
    return root / "repositories/deep/app/_oci/index.json"


def publish(tree: Tree, tag: str = "1") -> None:
    tree.publish(making.publication(f"deep/app:{tag}", making.image(tree, b"base", tag.encode() * 100, note=tag)))


def kept(root: Path) -> list[Path]:
    return sorted((root / "damaged").glob("*"))


@pytest.mark.parametrize("damage", ["", "{", '{"manifests": [3]}'])
@pytest.mark.parametrize("change", ["publish", "hold"])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_damaged_index_is_kept_when_it_is_replaced_and_no_blob_is_removed(
    root: Path, damage: str, change: str, *, meanwhile: bool
) -> None:
    before, blobs = index(root).read_bytes(), set((root / "blobs/sha256").iterdir())
    if not meanwhile:
        index(root).write_text(damage)
    with Tree(root) as tree:
        if meanwhile:
            index(root).write_text(damage)
            with pytest.raises(Exception, match=r"index\.json is damaged"):
                tree.sweep(-1)
        if change == "publish":
            publish(tree)
        else:
            tree.withdraw(Reference.parse("deep/app:1"), hold=True)
        (file,) = kept(root)
        assert file.read_text() == damage
        assert file.name.endswith("Z-deep+app.json")
        assert str(file) in "".join(tree.undecided)
        for _ in range(2):
            with pytest.raises(UndecidedError, match=r"put it back.*verify --repair"):
                tree.sweep(-1)
        assert blobs <= set((root / "blobs/sha256").iterdir())
    assert [fault.words for fault in verify(root)] == [setting_aside.words(TreePaths(root), file.name)]
    file.write_bytes(before)  # an operator has mended it, and puts it back
    file.rename(index(root))
    with Tree(root) as tree:
        assert {str(reference) for reference in tree.shown.publications} == {"deep/app:1", "deep/app:kept"}
        assert {str(reference) for reference in tree.shown.held} == {"deep/app:out"}
        tree.sweep(-1)
    assert is_whole(root)
    assert list(verify(root)) == []


def test_an_operator_gives_a_damaged_index_up_in_two_steps(root: Path) -> None:
    index(root).write_text("{")
    with Tree(root) as tree:
        with pytest.raises(Exception, match="verify --repair"):
            tree.sweep(-1)
        assert len(set((root / "blobs/sha256").iterdir())) > 0
    repair(root, list(verify(root)))
    assert not index(root).exists()
    assert not (root / "repositories/deep/app/_tags.json").exists(), "plain web servers do not show what is not known"
    assert [path.read_text() for path in kept(root)] == ["{"]
    with Tree(root) as tree, pytest.raises(UndecidedError):
        tree.sweep(-1)
    repair(root, list(verify(root)))
    assert list(verify(root)) == []
    with Tree(root) as tree:
        assert tree.sweep(-1).blobs > 0
    assert list((root / "blobs/sha256").iterdir()) == []


@pytest.mark.parametrize("number", range(1, 40, 3))
def test_a_kill_while_a_damaged_index_is_replaced_loses_neither(root: Path, tmp_path: Path, number: int) -> None:
    index(root).write_text("{")
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("*", "*", "KILL", first=number)
    with pytest.raises(Exception, match="SIGKILL"):
        drive(root, shim, "publish:deep/app:1=1")
    blobs = set((root / "blobs/sha256").iterdir())
    assert "{" in [path.read_text() for path in (index(root), *kept(root))]
    with Tree(root) as tree, pytest.raises(Exception, match="verify --repair"):
        tree.sweep(-1)
    assert blobs <= set((root / "blobs/sha256").iterdir())


def test_an_index_that_cannot_be_opened_now_is_not_replaced(root: Path, tmp_path: Path) -> None:
    before = shown(root).publications
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("open-read", str(index(root)), "EMFILE", times=2)
    results = drive(root, shim, "publish:deep/app:2=new", "publish:deep/app:2=new")
    assert results[0] == "TreeError: the index of repository deep/app cannot be read now, and is not replaced"
    assert results[1] == "ok"
    assert set(shown(root).publications) == {*before, Reference.parse("deep/app:2")}
    assert kept(root) == []


def test_no_more_than_some_indexes_are_kept(root: Path) -> None:
    with Tree(root) as tree:
        for number in range(setting_aside.MOST + 3):
            index(root).write_text("{" * (number + 1))
            with pytest.raises(Exception, match="verify --repair"):
                tree.sweep(-1)
            publish(tree)
    assert [len(path.read_text()) for path in kept(root)] == list(range(4, setting_aside.MOST + 4))
    assert Digest.of(b"base").hex in {path.name for path in (root / "blobs/sha256").iterdir()}
