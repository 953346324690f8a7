"""What is pulled, copied or read elsewhere is the image that podman holds, bit by bit."""

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import eventually, run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store, survey

_CAP_NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.fixture(scope="module")
def hello(service: Service) -> str:
    """The digest of an image with every kind of file, as `hello:1`."""
    store = service.store
    store.buildah("from", "--name", "hello", "scratch")
    _furnish(Path(store.buildah("mount", "hello")))
    store.buildah("umount", "hello")
    store.buildah("config", "--env", "GREETING=hello", "--cmd", "/bin/tool", "hello")
    store.buildah("commit", "--quiet", "--rm", "hello", "localhost/hello:1")
    digest = store.digest("localhost/hello:1")
    eventually(lambda: service.client.shows("hello", "1", digest))
    return digest


def _furnish(root: Path) -> None:
    (root / "bin").mkdir()
    tool = root / "bin" / "tool"
    tool.write_bytes(b"#!/bin/sh\n")
    tool.chmod(0o4755)
    os.setxattr(tool, "security.capability", _CAP_NET_RAW)
    os.setxattr(tool, "user.note", b"kept")
    (root / "bin" / "alias").symlink_to("tool")
    (root / "bin" / "hard").hardlink_to(tool)
    owned = root / "owned by somebody, \N{LATIN SMALL LETTER E WITH ACUTE}"
    owned.mkdir(mode=0o750)
    os.chown(owned, 1234, 5678)
    os.mkfifo(root / "pipe")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "large").write_bytes(os.urandom(1_000_000))


@pytest.fixture(scope="module")
def other() -> Iterator[Store]:
    """An empty store, as on another host."""
    with scratch() as directory:
        yield Store(directory)


@pytest.fixture(scope="module")
def pulled(service: Service, hello: str, other: Store) -> str:
    """The name of the image on the other host, pulled."""
    name = f"{service.address}/hello:1"
    other.podman("pull", "--quiet", "--tls-verify=false", name)
    return name


def test_a_pulled_image_has_the_digest_that_its_builder_shows(other: Store, pulled: str, hello: str) -> None:
    assert other.digest(pulled) == hello


def test_a_pulled_image_has_the_image_id_of_its_builder(service: Service, other: Store, pulled: str) -> None:
    assert other.image_id(pulled) == service.store.image_id("localhost/hello:1")


def test_a_pulled_image_has_the_same_files(service: Service, other: Store, pulled: str) -> None:
    with service.store.mounted("localhost/hello:1") as here, other.mounted(pulled) as there:
        expected, found = survey(here), survey(there)
    assert found == expected
    assert {"bin/tool", "bin/alias", "bin/hard", "pipe", "null", "large"} < found.keys()


def test_a_pull_by_digest_is_the_same_image(service: Service, other: Store, hello: str) -> None:
    other.podman("pull", "--quiet", "--tls-verify=false", f"{service.address}/hello@{hello}")
    assert other.image_id(f"{service.address}/hello@{hello}") == service.store.image_id("localhost/hello:1")


def test_skopeo_inspects_the_registry(service: Service, hello: str) -> None:
    where = f"docker://{service.address}/hello:1"
    assert run("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", where) == hello
    assert "1" in run("skopeo", "list-tags", "--tls-verify=false", f"docker://{service.address}/hello")


def test_skopeo_copies_from_the_registry_with_digests_kept(service: Service, hello: str, directory: Path) -> None:
    words = ("--quiet", "--preserve-digests", "--src-tls-verify=false")
    run("skopeo", "copy", *words, f"docker://{service.address}/hello:1", f"dir:{directory / 'd'}")
    assert run("skopeo", "manifest-digest", directory / "d" / "manifest.json") == hello


def test_skopeo_and_umoci_read_the_tree(service: Service, hello: str, directory: Path) -> None:
    layout = service.tree / "repositories" / "hello" / "_oci"
    assert run("skopeo", "inspect", "--format", "{{.Digest}}", f"oci:{layout}:1") == hello
    assert "1" in run("umoci", "list", "--layout", layout).split()
    run("umoci", "unpack", "--image", f"{layout}:1", directory / "bundle")
    tool = directory / "bundle" / "rootfs" / "bin" / "tool"
    assert tool.read_bytes() == b"#!/bin/sh\n"
    assert stat.S_IMODE(tool.stat().st_mode) == 0o4755


def test_an_image_on_top_of_a_published_one_shares_its_layers(service: Service, hello: str) -> None:
    store = service.store
    store.buildah("from", "--pull-never", "--name", "child", "localhost/hello:1")
    store.buildah("config", "--label", "made=of hello", "child")
    context = store.context("the child's layer")
    store.buildah("copy", "child", context / "file", "/added")
    store.buildah("commit", "--quiet", "--rm", "child", "localhost/child:1")
    digest = store.digest("localhost/child:1")
    eventually(lambda: service.client.shows("child", "1", digest))
    below = service.client.get("/v2/hello/manifests/1").json["layers"]
    layers = service.client.get("/v2/child/manifests/1").json["layers"]
    assert layers[: len(below)] == below
    assert len(layers) == len(below) + 1


def test_the_tree_verifies_while_it_is_served(service: Service, hello: str) -> None:
    assert service.tell("verify") == "the tree is whole"
