"""`verify` names every fault, and finds none where there is none."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import TreeError
from bridge.oci import Digest, Reference
from bridge.plan import Shown
from bridge.tree.contents import shown
from bridge.tree.publisher import Tree
from bridge.tree.verify import Copies, copies, repair, verify
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


def link(root: Path) -> Path:
    return root / "repositories/app/_oci/blobs/sha256" / blob(root).name


@pytest.mark.parametrize("content", [b"other" * 1000, b"short", b""])
def test_a_copy_with_other_bytes_in_a_repository_is_found_and_mended(root: Path, content: bytes) -> None:
    link(root).unlink()
    link(root).write_bytes(content)
    assert any(blob(root).name in fault.words for fault in verify(root))
    assert len(mended(root).publications) == 1
    assert list(verify(root)) == []
    assert link(root).samefile(blob(root))


def test_a_copy_with_the_same_bytes_is_whole_and_is_linked_by_a_repair(root: Path) -> None:
    link(root).unlink()
    link(root).write_bytes(b"layer" * 1000)
    assert list(verify(root)) == []
    assert copies(root) == Copies(1, 5000)
    repair(root, [])
    assert copies(root) == Copies()


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


def unreadable(path: Path) -> None:
    """Have a file that cannot be opened, whoever asks."""
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o644)


def test_a_blob_that_the_disk_cannot_read_is_taken_out(root: Path) -> None:
    unreadable(blob(root))
    unreadable(link(root))
    assert any(fault.words.startswith(f"blob {blob(root).name}: No such device") for fault in verify(root))
    assert mended(root).publications == {}
    assert list(verify(root)) == []


@pytest.mark.parametrize("place", [blob, link])
def test_a_blob_that_the_disk_cannot_read_in_one_of_two_places_is_made_of_the_other(
    root: Path, place: Callable[[Path], Path]
) -> None:
    unreadable(place(root))
    assert list(verify(root))
    assert len(mended(root).publications) == 1
    assert list(verify(root)) == []


def test_a_damaged_encoding_is_taken_out_and_everything_stays(root: Path) -> None:
    encoding = root / "encoded/gzip" / blob(root).name
    encoding.parent.mkdir(parents=True)
    encoding.write_bytes(b"none")
    assert len(list(verify(root))) == 1
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


def lose(path: Path) -> None:
    """Have a file that cannot be read, as one with a bad block: EIO."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


def test_a_tree_of_which_the_disk_has_lost_a_manifest_or_an_index_is_opened_without_it(root: Path) -> None:
    with Tree(root) as tree:
        for reference in ("other:1", "third:1"):
            tree.publish(making.publication(reference, making.image(tree, reference.encode())))
        lost = tree.shown.publications[Reference.parse("app:1")].descriptor.digest
    lose(root / "blobs/sha256" / lost.hex)
    lose(root / "repositories/app/_oci/blobs/sha256" / lost.hex)
    lose(root / "repositories/third/_oci/index.json")
    with Tree(root) as tree:
        assert [str(reference) for reference in tree.shown.publications] == ["other:1"]


def test_a_repair_takes_out_a_manifest_that_the_disk_has_lost(root: Path) -> None:
    lost = shown(root).publications[Reference.parse("app:1")].descriptor.digest
    for blobs in ("blobs", "repositories/app/_oci/blobs"):
        lose(root / blobs / "sha256" / lost.hex)
    repair(root, list(verify(root)))
    assert list(verify(root)) == []
    assert not os.path.lexists(root / "blobs/sha256" / lost.hex)


VIEWS = ("repositories/_catalog.json", "repositories/app/_tags.json")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("content", [b"", b"{}", b'{"repositories":["other"]}', None])
def test_a_view_that_is_not_what_the_indexes_say_is_found_and_mended(
    root: Path, view: str, content: bytes | None
) -> None:
    (root / view).unlink()
    if content is not None:
        (root / view).write_bytes(content)
    assert [fault.words.rpartition("view ")[2].split()[0] for fault in verify(root)] == [Path(view).name]
    repair(root, list(verify(root)))
    assert list(verify(root)) == []


@pytest.mark.parametrize("name", ["1", "2"])
def test_a_reference_that_is_lost_or_too_many_is_found(root: Path, name: str) -> None:
    reference = root / "repositories/app/_references" / name
    reference.unlink(missing_ok=True)
    if name == "2":
        reference.symlink_to("../_manifests/none")
    assert [fault.words for fault in verify(root)] == ["repository app: view _references is not what its index says"]
