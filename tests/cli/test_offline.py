"""The verbs that need no service: what they say of a tree, whole or not."""

import json
from pathlib import Path

import pytest

from bridge.oci import Reference
from bridge.tree.publisher import Tree
from tests.end_to_end.programs import podbridge
from tests.registry.trees import manifest_of, publish


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with `hello:1`, and `gone:1` that is withdrawn."""
    with Tree(tmp_path / "tree") as tree:
        publish(tree, "hello:1", manifest_of(tree, (b"layer",)))
        publish(tree, "gone:1", manifest_of(tree, (b"gone",)))
        tree.withdraw(Reference.parse("gone:1"))
    return tmp_path / "tree"


def layers(root: Path) -> list[Path]:
    """Return the blobs of the layers of `hello:1`."""
    return [path for path in (root / "blobs" / "sha256").iterdir() if path.read_bytes() == b"layer"]


def test_a_whole_tree_verifies(root: Path) -> None:
    done = podbridge("verify", "--tree", root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the tree is whole\n", "")
    told = json.loads(podbridge("verify", "--tree", root, "--json").stdout)
    assert told == {"faults": [], "copies": 0, "copiedBytes": 0}


def test_verify_finds_a_flipped_byte(root: Path) -> None:
    (layer,) = layers(root)
    layer.write_bytes(b"lbyer")
    done = podbridge("verify", "--tree", root)
    assert done.returncode == 1
    fault, summary = done.stdout.splitlines()
    assert fault.startswith(f"blob {layer.name}: its bytes have digest sha256:")
    assert summary == "1 fault found; --repair, with podbridge stopped, mends or takes out what is wrong"
    assert len(json.loads(podbridge("verify", "--tree", root, "--json").stdout)["faults"]) == 1


def test_verify_finds_a_missing_blob(root: Path) -> None:
    (layer,) = layers(root)
    layer.unlink()
    done = podbridge("verify", "--tree", root)
    assert done.returncode == 1
    assert "repository hello: manifest sha256:" in done.stdout
    assert f"the tree lacks blob sha256:{layer.name}" in done.stdout


def test_verify_finds_a_missing_link_of_a_repository(root: Path) -> None:
    (layer,) = layers(root)
    (root / "repositories" / "hello" / "_oci" / "blobs" / "sha256" / layer.name).unlink()
    done = podbridge("verify", "--tree", root)
    assert done.returncode == 1
    assert f"repository hello: lacks blob sha256:{layer.name}" in done.stdout


def test_verify_finds_a_damaged_index(root: Path) -> None:
    (root / "repositories" / "hello" / "_oci" / "index.json").write_text("{", encoding="utf-8")
    done = podbridge("verify", "--tree", root)
    assert done.returncode == 1
    assert "repository hello: index.json is damaged" in done.stdout


def test_list_reads_a_tree(root: Path) -> None:
    done = podbridge("list", "--tree", root)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["REFERENCE", "hello:1"]
    (publication,) = json.loads(podbridge("list", "--tree", root, "--json").stdout)
    assert (publication["reference"], publication["fidelity"]) == ("hello:1", "exact")


def test_gc_keeps_what_the_grace_period_covers_and_sweeps_the_rest(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text("grace: 0s\n", encoding="utf-8")
    assert podbridge("gc", "--tree", root).stdout == "removed 0 superseded manifests and 0 blobs, 0 B\n"
    before = sorted((root / "blobs" / "sha256").iterdir())
    dry = podbridge("--config", file, "gc", "--tree", root, "--dry-run").stdout
    assert dry.startswith("would remove 1 superseded manifest and ")
    assert sorted((root / "blobs" / "sha256").iterdir()) == before
    done = podbridge("--config", file, "gc", "--tree", root)
    assert done.stdout == dry.replace("would remove", "removed"), "a dry run says what is then done"
    assert len(list((root / "blobs" / "sha256").iterdir())) == len(before) - 3
    assert podbridge("verify", "--tree", root).returncode == 0
    assert not (root / "repositories" / "gone").exists()


@pytest.mark.parametrize("verb", [["verify"], ["list"], ["gc"], ["gc", "--dry-run"]])
def test_a_directory_that_is_no_tree_is_refused_and_left_alone(tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    for name, found in (("foreign", "it holds 'file'"), ("missing", "it is empty or missing")):
        done = podbridge(*verb, "--tree", tmp_path / name)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"podbridge: {tmp_path / name} is no podbridge tree: {found}")
        assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["file"]


@pytest.mark.parametrize("verb", [["serve"], ["sync"], ["registry"]])
def test_a_foreign_directory_is_not_published_into_and_not_served(tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "file").touch()
    done = podbridge(*verb, "--tree", tmp_path, *(["--listen", "127.0.0.1:0"] if verb != ["sync"] else []))
    assert done.returncode == 1
    assert done.stderr.startswith(f"podbridge: {tmp_path} is no podbridge tree: it holds 'file'")


@pytest.mark.parametrize("verb", ["verify", "list", "gc", "registry"])
def test_a_tree_of_another_format_is_refused_with_words(root: Path, verb: str) -> None:
    (root / "podbridge.json").write_text('{"version": 99}', encoding="utf-8")
    done = podbridge(verb, "--tree", root)
    assert done.returncode == 1
    assert f"{root} has tree format 99, and this podbridge knows 1" in done.stderr
