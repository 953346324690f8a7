"""A file system that takes no more hard links of a file, or has none at all, holds a tree all the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.oci import Digest
from bridge.tree.publisher import Tree
from bridge.tree.verify import copies, verify
from tests.chaos.shim import Shim
from tests.chaos.test_deletion import drive, is_whole
from tests.tree import making

MOST = 65_000
"""Links of one file that ext4 allows."""


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A small ext4 of its own."""
    image, mount = tmp_path / "image", tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["truncate", "--size=64M", str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("no loop device can be mounted here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_base_of_more_images_than_the_file_system_has_links_is_published(ext4: Path) -> None:
    with Tree(ext4 / "t") as tree:
        tree.publish(making.publication("app:1", making.image(tree, b"base", b"1")))
        base = tree.paths.blob(Digest.of(b"base"))
        (ext4 / "links").mkdir()
        for number in range(MOST - base.stat().st_nlink):
            os.link(base, ext4 / "links" / str(number))
        for number in range(3):
            tree.publish(making.publication(f"more{number}:1", making.image(tree, b"base", str(number).encode())))
        assert copies(ext4 / "t").files == 1, "one copy makes room for 65,000 links"
        tree.sweep(-1)
    assert is_whole(ext4 / "t")
    assert list(verify(ext4 / "t")) == []


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "EXDEV", "EMLINK"])
def test_where_no_link_can_be_made_blobs_are_copied(tmp_path: Path, error: str) -> None:
    root = tmp_path / "t"
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("link", "*", error, times=0)
    words = ["publish:app:1=x", "publish:other:1=x", "publish:app:1=y", "sweep:-1", "publish:app:2=x"]
    assert drive(root, shim, *words) == ["ok"] * 5 + ["shown app:1 app:2 other:1"]
    assert is_whole(root)
    assert list(verify(root)) == []
    assert copies(root).files > 0


def test_a_file_system_without_symbolic_links_is_refused_with_its_name(tmp_path: Path) -> None:
    root = tmp_path / "t"
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("symlink", "*", "EPERM", times=0)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        drive(root, shim)
    assert "which has no symbolic links" in failed.value.stderr
    assert str(root) in failed.value.stderr


@pytest.mark.parametrize("mask", [0o077, 0o000, 0o022])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with Tree(tmp_path / "t") as tree:
            tree.publish(making.publication("deep/app:1", making.image(tree, b"x")))
    finally:
        os.umask(before)
    for path in (tmp_path / "t").rglob("*"):
        if not path.is_symlink() and path.name != "lock":
            assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize(("content", "words"), [
    ('{"version": 0}', "older than any"), ('{"version": 2}', "use a newer podbridge"),
    ('{"version": "1"}', "is damaged"), ("", "is damaged"), ("{}", "is damaged"),
])  # fmt: skip
def test_a_tree_of_another_format_is_refused_in_words(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "podbridge.json").write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "verify", "--tree", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert words in done.stderr
