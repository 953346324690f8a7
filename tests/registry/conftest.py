"""A tree with one repository for each kind of manifest, and a registry over it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from bridge.tree.publisher import Tree
from tests.registry.trees import index_of, manifest_of, publish
from tests.registry.wires import Registry, registry

LARGE = os.urandom(40_000_000)
CANARY = b"this file is none of the registry's business"


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a canary beside the tree."""
    place = tmp_path_factory.mktemp("place")
    (place / "canary").write_bytes(CANARY)
    return place


@pytest.fixture(scope="session")
def tree(place: Path) -> Iterator[Tree]:
    """A tree with all kinds of publications."""
    with Tree(place / "tree") as tree:
        first = manifest_of(tree, (b"a small layer",))
        second = manifest_of(tree, (b"another layer",))
        publish(tree, "hello:1", first)
        publish(tree, "hello:latest", second)
        publish(tree, "deep/er/name:v1.0_x-Y", manifest_of(tree, (b"deep",)))
        publish(tree, "large:1", manifest_of(tree, (LARGE, b"x" * 65536, b"y" * 65537, b"")))
        docker = manifest_of(tree, (b"docker",), DOCKER_MANIFEST)
        publish(tree, "docker:1", docker, DOCKER_MANIFEST)
        publish(tree, "index:1", index_of(tree, [first, second]), OCI_INDEX)
        publish(tree, "list:1", index_of(tree, [docker], DOCKER_LIST), DOCKER_LIST)
        publish(tree, "untyped:1", manifest_of(tree, (b"untyped",), mediaType=None))
        yield tree


@pytest.fixture(scope="session")
def server(tree: Tree, place: Path) -> Iterator[Registry]:
    """A registry over the tree."""
    with registry(tree.paths.root, place / "log") as server:
        yield server
        assert "ERROR" not in server.said()
        assert "Traceback" not in server.said()


@pytest.fixture
def writable(tmp_path: Path) -> Iterator[Tree]:
    """An empty tree for a test that changes it."""
    with Tree(tmp_path / "tree") as tree:
        yield tree


@pytest.fixture
def live(writable: Tree, tmp_path: Path) -> Iterator[Registry]:
    """A registry over that tree."""
    with registry(writable.paths.root, tmp_path / "log") as server:
        yield server
