"""The tree shows whole things only, moves tags by one rename, and forgets nothing too early."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import LockedError, NotPublishedError, TreeError
from bridge.oci import Digest, Reference, Repository, Tag
from bridge.tree.publisher import Tree
from bridge.tree.reader import TreeReader
from bridge.tree.sweeping import Swept
from tests.tree import making


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree(tmp_path / "tree") as made:
        yield made


def ref(text: str) -> Reference:
    return Reference.parse(text)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_publication_is_an_oci_image_layout_with_everything_it_references(tree: Tree) -> None:
    descriptor = making.image(tree, b"layer")
    tree.publish(making.publication("org/app:1", descriptor))
    root = tree.paths.root
    layout = root / "repositories/org/app/_oci"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    [entry] = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    assert entry["digest"] == str(descriptor.digest)
    assert making.whole(root, descriptor, "org/app")


def test_blobs_are_hard_links_with_mode_0644(tree: Tree) -> None:
    descriptor = making.image(tree, b"layer")
    tree.publish(making.publication("a:1", descriptor))
    tree.publish(making.publication("b:1", descriptor))
    status = tree.paths.blob(Digest.of(b"layer")).stat()
    assert status.st_nlink == 3
    assert status.st_mode & 0o777 == 0o644


def test_a_manifest_that_lacks_a_blob_is_not_shown(tree: Tree) -> None:
    descriptor = making.image(tree, b"layer")
    tree.paths.blob(Digest.of(b"layer")).unlink()
    with pytest.raises(TreeError, match="lacks blob"):
        tree.publish(making.publication("app:1", descriptor))
    assert not tree.shown.publications
    with pytest.raises(NotPublishedError):
        TreeReader(tree.paths.root).tagged(ref("app:1"))


def test_what_could_not_be_shown_leaves_no_repository_and_is_swept(tree: Tree) -> None:
    descriptor = making.image(tree, b"layer")
    tree.paths.blob(Digest.of(b"layer")).unlink()
    with pytest.raises(TreeError, match="lacks blob"):
        tree.publish(making.publication("deep/er/app:1", descriptor))
    assert not (tree.paths.repositories / "deep").exists()
    assert tree.sweep(-1).blobs == 2
    assert not tree.has(descriptor.digest)


def test_an_index_is_shown_with_its_members(tree: Tree) -> None:
    one, two = making.image(tree, b"1", note="1"), making.image(tree, b"2", note="2")
    both = making.index(tree, one, two)
    tree.publish(making.publication("app:1", both))
    reader = TreeReader(tree.paths.root)
    assert {one.digest, two.digest, both.digest} == set(reader.view(Repository("app")).manifests)
    assert making.whole(tree.paths.root, both, "app")


def test_a_moved_tag_shows_the_new_and_still_hands_out_the_old(tree: Tree) -> None:
    reader = TreeReader(tree.paths.root)
    old, new = making.image(tree, b"old", note="old"), making.image(tree, b"new", note="new")
    tree.publish(making.publication("app:1", old))
    assert reader.tagged(ref("app:1")).digest == old.digest
    tree.publish(making.publication("app:1", new))
    assert reader.tagged(ref("app:1")).digest == new.digest
    assert reader.manifest(Repository("app"), old.digest).digest == old.digest
    assert making.whole(tree.paths.root, old, "app")


def test_a_sweep_keeps_what_is_in_grace_and_removes_what_is_past_it(tree: Tree) -> None:
    old, new = making.image(tree, b"old", note="old"), making.image(tree, b"new", note="new")
    tree.publish(making.publication("app:1", old))
    tree.publish(making.publication("app:1", new))
    assert tree.sweep(3600) == Swept()
    assert making.whole(tree.paths.root, old, "app")
    before = files(tree.paths.root)
    planned = tree.sweep(-1, dry_run=True)
    assert planned.manifests == 1
    assert files(tree.paths.root) == before
    assert tree.sweep(-1).manifests == 1
    with pytest.raises(NotPublishedError):
        TreeReader(tree.paths.root).manifest(Repository("app"), old.digest)
    assert not tree.has(old.digest)
    assert not tree.has(Digest.of(b"old"))
    assert making.whole(tree.paths.root, new, "app")


def test_a_blob_that_another_repository_links_survives_a_sweep(tree: Tree) -> None:
    one, two = making.image(tree, b"base", b"1"), making.image(tree, b"base", b"2")
    tree.publish(making.publication("one:1", one))
    tree.publish(making.publication("two:1", two))
    tree.withdraw(ref("one:1"))
    tree.sweep(-1)
    assert making.whole(tree.paths.root, two, "two")
    assert not tree.has(Digest.of(b"1"))


def test_the_last_withdrawal_leaves_no_repository_after_its_grace(tree: Tree) -> None:
    tree.publish(making.publication("deep/er/app:1", making.image(tree, b"x")))
    tree.withdraw(ref("deep/er/app:1"))
    assert not tree.shown.publications
    assert (tree.paths.repositories / "deep/er/app").exists()
    tree.sweep(-1)
    assert [path.name for path in tree.paths.repositories.iterdir()] == ["_catalog.json"]


def test_a_repository_inside_another_one_s_path_is_its_own(tree: Tree) -> None:
    inner, outer = making.image(tree, b"inner"), making.image(tree, b"outer")
    tree.publish(making.publication("a:1", outer))
    tree.publish(making.publication("a/blobs:1", inner))
    tree.withdraw(ref("a:1"))
    tree.sweep(-1)
    assert making.whole(tree.paths.root, inner, "a/blobs")
    assert TreeReader(tree.paths.root).repositories() == ["a/blobs"]


def test_withdrawing_what_is_not_there_says_so(tree: Tree) -> None:
    with pytest.raises(NotPublishedError, match="app:1"):
        tree.withdraw(ref("app:1"))


def test_a_hold_survives_a_restart_and_ends_with_a_release(tmp_path: Path) -> None:
    with Tree(tmp_path / "t") as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"x")))
        tree.withdraw(ref("app:1"), hold=True)
        tree.withdraw(ref("other:1"), hold=True)
        tree.sweep(-1)
    with Tree(tmp_path / "t") as tree:
        assert tree.shown.held == {ref("app:1"), ref("other:1")}
        tree.release(ref("other:1"))
        tree.publish(making.publication("app:1", making.image(tree, b"x")))
        assert tree.shown.held == frozenset()


def test_everything_that_is_shown_survives_a_restart(tmp_path: Path) -> None:
    with Tree(tmp_path / "t") as tree:
        tree.publish(making.publication("a:1", making.image(tree, b"x"), requested=True))
        tree.publish(making.publication("a:2", making.image(tree, b"y")))
        tree.withdraw(ref("a:2"))
        before = tree.shown
    with Tree(tmp_path / "t") as tree:
        found, kept = tree.shown.publications[ref("a:1")], before.publications[ref("a:1")]
        assert found.requested
        assert (found.source, found.descriptor) == (kept.source, kept.descriptor)
        other = making.publication("a:2", making.image(tree, b"y"))
        assert tree.find(other.source, other.origins) is not None


def test_derived_files_are_rebuilt_at_the_start(tmp_path: Path) -> None:
    with Tree(tmp_path / "t") as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"x")))
    catalog = tmp_path / "t/repositories/_catalog.json"
    tags = tmp_path / "t/repositories/app/_tags.json"
    wanted = catalog.read_bytes(), tags.read_bytes()
    catalog.unlink()
    tags.write_text("{}")
    with Tree(tmp_path / "t"):
        assert (catalog.read_bytes(), tags.read_bytes()) == wanted


def test_staging_is_emptied_at_the_start_and_after_use(tmp_path: Path) -> None:
    with Tree(tmp_path / "t") as tree, tree.stage() as directory:
        (directory / "left").write_text("x")
    (tmp_path / "t/staging/left-by-a-kill").mkdir()
    with Tree(tmp_path / "t") as tree:
        assert list(tree.paths.staging.iterdir()) == []


def test_a_second_publisher_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with Tree(tmp_path / "t"), pytest.raises(LockedError, match=str(os.getpid())):
        Tree(tmp_path / "t").__enter__()
    with Tree(tmp_path / "t"):
        pass


def test_a_directory_with_other_things_in_it_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(TreeError, match="letters"):
        Tree(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_tree_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "podbridge.json").write_text('{"version": 2}')
    with pytest.raises(TreeError, match="format 2"):
        Tree(tmp_path).__enter__()


def test_a_damaged_index_heals_with_the_next_publication(tmp_path: Path) -> None:
    with Tree(tmp_path / "t") as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"x")))
    (tmp_path / "t/repositories/app/_oci/index.json").write_text("{")
    with Tree(tmp_path / "t") as tree:
        assert not tree.shown.publications
        tree.publish(making.publication("app:1", making.image(tree, b"x")))
    assert TreeReader(tmp_path / "t").repositories() == ["app"]


def test_readers_never_see_a_tag_and_a_manifest_that_differ_while_it_moves(tree: Tree) -> None:
    images = [making.image(tree, str(number).encode(), note=str(number)) for number in range(20)]
    reader = TreeReader(tree.paths.root)
    for descriptor in images * 3:
        tree.publish(making.publication("app:1", descriptor))
        assert reader.tagged(ref("app:1")).digest == descriptor.digest
        assert Digest.of(reader.read(Repository("app"), descriptor.digest)) == descriptor.digest


def test_publishing_the_same_again_supersedes_nothing(tree: Tree) -> None:
    descriptor = making.image(tree, b"x")
    for _ in range(3):
        tree.publish(making.publication("app:1", descriptor))
    assert tree.sweep(-1).manifests == 0


def test_a_tag_that_comes_back_within_its_grace_is_no_longer_on_its_way_out(tree: Tree) -> None:
    descriptor = making.image(tree, b"x")
    tree.publish(making.publication("app:1", descriptor))
    tree.withdraw(ref("app:1"))
    tree.publish(making.publication("app:2", descriptor))
    tree.sweep(-1)
    assert TreeReader(tree.paths.root).view(Repository("app")).tags.keys() == {Tag("2")}
    assert making.whole(tree.paths.root, descriptor, "app")


def test_a_fresh_blob_without_a_link_is_left_for_the_publication_to_come(tree: Tree) -> None:
    for content in (b"just exported", b"exported long ago"):
        making.put(tree, content, "x")
    os.utime(tree.paths.blob(Digest.of(b"exported long ago")), (time.time() - 120, time.time() - 120))
    assert tree.sweep(60).blobs == 1
    assert tree.has(Digest.of(b"just exported"))
