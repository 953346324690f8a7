"""A directory in the place of a file stops nothing: it is damage, and is mended as any other."""

from pathlib import Path

import pytest

from bridge.errors import UndecidedError
from bridge.oci import Digest, Reference
from bridge.tree.contents import shown
from bridge.tree.publisher import Tree
from bridge.tree.verify import repair, verify
from tests.tree import making

LAYER = b"layer" * 1000
LAYER_NAME = Digest.of(LAYER).hex
MENDED_BY_OPENING = [
    f"blobs/sha256/{LAYER_NAME}",
    f"repositories/app/_oci/blobs/sha256/{LAYER_NAME}",
    "repositories/app/_oci/oci-layout",
    "repositories/app/_tags.json",
    "repositories/app/_references/1",
    "repositories/_catalog.json",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Tree(tmp_path / "t") as tree:
        tree.publish(making.publication("app:1", making.image(tree, LAYER)))
    return tmp_path / "t"


def replace_by_directory(path: Path) -> None:
    path.unlink()
    (path / "below").mkdir(parents=True)


@pytest.mark.parametrize("name", MENDED_BY_OPENING)
def test_a_directory_in_the_place_of_a_file_is_found_and_makes_room_for_it(root: Path, name: str) -> None:
    replace_by_directory(root / name)
    assert list(verify(root))
    with Tree(root) as tree:
        assert set(tree.shown.publications) == {Reference.parse("app:1")}
    assert list(verify(root)) == []


def test_a_blob_that_is_a_directory_in_both_places_is_taken_out_and_published_again(root: Path) -> None:
    for name in MENDED_BY_OPENING[:2]:
        replace_by_directory(root / name)
    with Tree(root) as tree:
        assert not tree.shown.publications
        tree.publish(making.publication("app:1", making.image(tree, LAYER)))
    assert list(verify(root)) == []


def test_an_index_that_is_a_directory_is_kept_as_a_damaged_one(root: Path) -> None:
    replace_by_directory(root / "repositories/app/_oci/index.json")
    assert "is a directory" in next(iter(verify(root))).words
    with Tree(root) as tree:
        tree.publish(making.publication("app:1", making.image(tree, LAYER)))
        with pytest.raises(UndecidedError, match="verify --repair"):
            tree.sweep(0)
    assert len(shown(root).publications) == 1
    repair(root, list(verify(root)))
    assert list(verify(root)) == []


@pytest.mark.parametrize("place", ["blobs/sha256", "repositories/app/_oci/blobs/sha256"])
def test_a_directory_among_blobs_ends_no_sweep_and_goes_by_a_repair(root: Path, place: str) -> None:
    (root / place / "strange/below").mkdir(parents=True)
    with Tree(root) as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"newer")))
        tree.sweep(-1)
    assert not (root / "blobs/sha256" / LAYER_NAME).exists()
    assert (root / place / "strange/below").exists()
    repair(root, list(verify(root)))
    assert not (root / place / "strange").exists()
    assert list(verify(root)) == []


@pytest.mark.parametrize("place", ["blobs/sha256", "repositories/app/_oci/blobs/sha256"])
def test_a_file_among_blobs_that_is_none_is_named_and_goes_by_a_repair(root: Path, place: str) -> None:
    strange = root / place / ".nfs0001"
    strange.touch()
    assert [fault.words for fault in verify(root)] == [f"{strange} is no blob; --repair removes it"]
    repair(root, list(verify(root)))
    assert list(verify(root)) == []


def test_a_superseded_link_that_is_a_directory_is_swept(root: Path) -> None:
    with Tree(root) as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"newer")))
        replace_by_directory(root / MENDED_BY_OPENING[1])
        tree.sweep(-1)
    assert not (root / MENDED_BY_OPENING[1]).exists()
