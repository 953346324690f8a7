"""`verify` names every fault, and finds none where there is none."""

import os
import stat
from pathlib import Path

import pytest

from bridge.errors import TreeError
from bridge.oci import Digest, Reference
from bridge.plan import Shown
from bridge.tree.contents import shown
from bridge.tree.publisher import Tree
from bridge.tree.verify import repair, verify
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
    assert blob(root).name in fault.words


def test_a_missing_blob_is_found(root: Path) -> None:
    blob(root).unlink()
    assert any("lacks blob" in fault for fault in map(str, verify(root)))


def test_a_link_to_other_bytes_is_found(root: Path) -> None:
    link = root / "repositories/app/_oci/blobs/sha256" / blob(root).name
    link.unlink()
    link.write_bytes(b"layer" * 1000)
    assert any("not the tree's" in fault for fault in map(str, verify(root)))


def test_what_a_sweep_takes_meanwhile_is_no_fault(root: Path) -> None:
    with Tree(root) as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"newer" * 1000)))
        link = root / "repositories/app/_oci/blobs/sha256" / Digest.of(b"newer" * 1000).hex
        link.unlink()
        faults = verify(root)
        assert "lacks blob" in next(faults).words
        tree.sweep(0)
        assert not blob(root).exists()
        assert list(faults) == []


def test_a_damaged_index_is_found(root: Path) -> None:
    (root / "repositories/app/_oci/index.json").write_text('{"manifests": [3]}')
    assert any("index.json is damaged" in fault for fault in map(str, verify(root)))


def test_a_directory_that_is_no_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="no podbridge tree"):
        list(verify(tmp_path / "nowhere"))


def mended(root: Path) -> Shown:
    """Repair the tree, and return what it shows then."""
    repair(root, list(verify(root)))
    return shown(root)


def test_a_publication_with_a_flipped_byte_is_taken_out_for_a_pass_to_publish_anew(root: Path) -> None:
    blob(root).write_bytes(b"other" * 1000)
    assert mended(root).publications == {}
    assert list(verify(root)) == []
    with Tree(root) as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"layer" * 1000)))
    assert list(verify(root)) == []


def test_a_blob_that_the_disk_cannot_read_is_taken_out(root: Path) -> None:
    blob(root).unlink()
    os.mknod(blob(root), stat.S_IFSOCK | 0o644)  # cannot be opened, whoever asks
    assert any(fault.words.startswith(f"blob {blob(root).name}: No such device") for fault in verify(root))
    assert mended(root).publications == {}
    assert list(verify(root)) == []


def test_a_link_to_other_bytes_and_a_damaged_encoding_are_mended_and_everything_stays(root: Path) -> None:
    link = root / "repositories/app/_oci/blobs/sha256" / blob(root).name
    link.unlink()
    link.write_bytes(b"layer" * 1000)
    encoding = root / "encoded/gzip" / blob(root).name
    encoding.parent.mkdir(parents=True)
    encoding.write_bytes(b"none")
    assert len(list(verify(root))) == 2
    assert len(mended(root).publications) == 1
    assert list(verify(root)) == []
    assert not encoding.exists()


def test_what_shares_no_damaged_blob_stays(root: Path) -> None:
    with Tree(root) as tree:
        tree.publish(making.publication("other:1", making.image(tree, b"other layer")))
        tree.publish(making.publication("app:2", making.image(tree, b"another layer")))
    blob(root).write_bytes(b"other" * 1000)
    assert sorted(map(str, mended(root).publications)) == ["app:2", "other:1"]
    assert list(verify(root)) == []


def test_a_publication_that_lost_a_blob_is_taken_out_when_the_tree_is_opened(root: Path) -> None:
    blob(root).unlink()
    (root / "repositories/app/_oci/blobs/sha256" / blob(root).name).unlink()
    with Tree(root) as tree:
        assert tree.shown.publications == {}
        assert not (root / "repositories/app/_references/1").exists()
    assert list(verify(root)) == []


@pytest.mark.parametrize("lost", ["blobs/sha256", "repositories/app/_oci/blobs/sha256"])
def test_a_blob_that_is_lost_in_one_of_two_places_is_linked_again(root: Path, lost: str) -> None:
    (root / lost / blob(root).name).unlink()
    with Tree(root) as tree:
        assert len(tree.shown.publications) == 1
    assert list(verify(root)) == []


def test_a_sweep_goes_on_past_a_damaged_repository_and_names_it(root: Path) -> None:
    with Tree(root) as tree:
        tree.publish(making.publication("zoo:1", making.image(tree, b"old")))
        tree.withdraw(Reference.parse("zoo:1"))
        blob(root).unlink()
        with pytest.raises(TreeError, match=r"repository app: the tree lacks blob .*verify --repair"):
            tree.sweep(-1)
        assert not (root / "blobs/sha256" / Digest.of(b"old").hex).exists()
        assert len(tree.shown.publications) == 1


def lose(path: Path) -> None:
    """Have a file that cannot be read, as one with a bad block: EIO."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("what", ["manifest", "index"])
def test_a_tree_of_which_the_disk_has_lost_a_manifest_or_an_index_is_opened_without_it(root: Path, what: str) -> None:
    with Tree(root) as tree:
        tree.publish(making.publication("other:1", making.image(tree, b"other")))
        lost = tree.shown.publications[Reference.parse("app:1")].descriptor.digest
    lose(root / "blobs/sha256" / lost.hex if what == "manifest" else root / "repositories/app/_oci/index.json")
    with Tree(root) as tree:
        assert [str(reference) for reference in tree.shown.publications] == ["other:1"]


def test_a_repair_takes_out_a_manifest_that_the_disk_has_lost(root: Path) -> None:
    lost = shown(root).publications[Reference.parse("app:1")].descriptor.digest
    lose(root / "blobs/sha256" / lost.hex)
    repair(root, list(verify(root)))
    assert list(verify(root)) == []
    assert not os.path.lexists(root / "blobs/sha256" / lost.hex)
