"""A directory that is no repository ends nothing, is told, and costs no blob."""

import os
from pathlib import Path

import pytest

from bridge.errors import TreeError
from bridge.oci import Digest, Reference
from bridge.tree.contents import shown
from bridge.tree.publisher import Tree
from bridge.tree.verify import verify
from tests.tree import making

STRANGE = ["Upper", "a b", "app.", "app/Upper", "-x", "n\nl", "x" * 200 + "/" + "x" * 200, "b\udcffd"]


def strange(root: Path, name: str, tree: Tree) -> None:
    """Have a copy of a repository by hand, under a name that is none, whose blobs no other references any more."""
    tree.publish(making.publication("first:1", making.image(tree, b"layer")))
    directory = root / "repositories" / name
    directory.parent.mkdir(parents=True, exist_ok=True)
    (root / "repositories/first").rename(directory)


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_a_directory_that_is_no_repository_is_passed_over(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "tree"
    with Tree(root) as tree:
        strange(root, name, tree)
    with Tree(root) as tree:
        kept = making.image(tree, b"kept")
        tree.publish(making.publication("app:1", kept))
        assert set(tree.shown.publications) == {Reference.parse("app:1")}
        with pytest.raises(TreeError, match="no blob is removed"):
            tree.sweep(-1)
        assert tree.paths.blob(Digest.of(b"layer")).exists()
        tree.discard([kept.digest])
    assert set(shown(root).publications) == {Reference.parse("app:1")}
    assert list(verify(root)) == []
    assert os.path.exists(root / "repositories" / name / "_oci/index.json")  # noqa: PTH110 - a name that is no text
    told = [record for record in caplog.records if "it is no repository" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"]
    assert "\n" not in told[0].getMessage()
