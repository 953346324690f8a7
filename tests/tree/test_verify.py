"""`verify` names every fault, and finds none where there is none."""

from pathlib import Path

import pytest

from bridge.errors import TreeError
from bridge.oci import Digest
from bridge.tree.publisher import Tree
from bridge.tree.verify import verify
from tests.tree import making


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Tree(tmp_path / "t") as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"layer" * 1000)))
    return tmp_path / "t"


def blob(root: Path) -> Path:
    return root / "blobs/sha256" / Digest.of(b"layer" * 1000).hex


def test_a_whole_tree_has_no_fault_and_all_its_bytes_are_read(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert list(verify(root, lambda done, total: seen.append((done, total)))) == []
    assert seen[-1][0] == seen[-1][1] > 5000


def test_a_flipped_byte_is_found(root: Path) -> None:
    content = bytearray(blob(root).read_bytes())
    content[7] ^= 1
    blob(root).write_bytes(content)
    [fault] = verify(root)
    assert blob(root).name in fault


def test_a_missing_blob_is_found(root: Path) -> None:
    blob(root).unlink()
    assert any("lacks blob" in fault for fault in verify(root))


def test_a_link_to_other_bytes_is_found(root: Path) -> None:
    link = root / "repositories/app/_oci/blobs/sha256" / blob(root).name
    link.unlink()
    link.write_bytes(b"layer" * 1000)
    assert any("not the tree's" in fault for fault in verify(root))


def test_a_damaged_index_is_found(root: Path) -> None:
    (root / "repositories/app/_oci/index.json").write_text('{"manifests": [3]}')
    assert any("index.json is damaged" in fault for fault in verify(root))


def test_a_directory_that_is_no_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="no podbridge tree"):
        list(verify(tmp_path / "nowhere"))
