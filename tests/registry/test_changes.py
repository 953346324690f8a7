"""While a tree changes its readers see one state or the other, never a mixture."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.oci import Reference
from bridge.tree.publisher import Tree
from tests.end_to_end.programs import ask, eventually, scratch
from tests.end_to_end.stores import Store
from tests.registry.trees import manifest_of, publish
from tests.registry.wires import Registry

MOVES = 300


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name, for a podman store."""
    with scratch() as directory:
        yield directory


@pytest.fixture
def versions(writable: Tree) -> list[bytes]:
    """Two manifests with their blobs in the tree."""
    return [manifest_of(writable, (f"layer {number}".encode(),)) for number in range(2)]


def test_a_tag_that_moves_is_never_seen_half(writable: Tree, live: Registry, versions: list[bytes]) -> None:
    publish(writable, "hello:1", versions[0])
    done = threading.Event()

    def hammer(_: int) -> list[tuple[str, str]]:
        seen = []
        while not done.is_set():
            response = live.get("/v2/hello/manifests/1")
            assert response.status == 200, response
            seen.append((response.digest, f"sha256:{hashlib.sha256(response.body).hexdigest()}"))
        return seen

    with ThreadPoolExecutor(3) as clients:
        running = clients.map(hammer, range(3))
        try:
            for number in range(MOVES):
                publish(writable, "hello:1", versions[number % 2])
        finally:
            done.set()
        answers = [pair for seen in running for pair in seen]
    assert [pair for pair in answers if pair[0] != pair[1]] == []
    assert {pair[0] for pair in answers} == {f"sha256:{hashlib.sha256(content).hexdigest()}" for content in versions}


def test_a_publication_is_visible_at_the_moment_it_is_made(
    writable: Tree, live: Registry, versions: list[bytes]
) -> None:
    for number in range(100):
        digest = publish(writable, "hello:1", versions[number % 2])
        assert live.digest("hello", "1") == digest
        reference = f"hello:n{number}"
        assert live.digest("hello", f"n{number}") is None
        publish(writable, reference, versions[0])
        assert live.digest("hello", f"n{number}")
        writable.withdraw(Reference.parse(reference))
        assert live.digest("hello", f"n{number}") is None


def test_a_superseded_manifest_is_served_by_digest_until_it_is_swept(
    writable: Tree, live: Registry, versions: list[bytes]
) -> None:
    old = publish(writable, "hello:1", versions[0])
    layer = live.get("/v2/hello/manifests/1").json["layers"][0]["digest"]
    publish(writable, "hello:1", versions[1])
    assert live.get(f"/v2/hello/manifests/{old}").body == versions[0]
    assert live.get(f"/v2/hello/blobs/{layer}").status == 200
    writable.sweep(3600)
    assert live.get(f"/v2/hello/manifests/{old}").status == 200
    writable.sweep(-1)
    assert live.get(f"/v2/hello/manifests/{old}").code == "MANIFEST_UNKNOWN"
    assert live.get(f"/v2/hello/blobs/{layer}").code == "BLOB_UNKNOWN"
    assert live.get("/v2/hello/manifests/1").body == versions[1]


def test_a_withdrawn_repository_is_unknown_once_it_is_swept(
    writable: Tree, live: Registry, versions: list[bytes]
) -> None:
    digest = publish(writable, "a/b:1", versions[0])
    publish(writable, "a:1", versions[0])
    writable.withdraw(Reference.parse("a/b:1"))
    assert live.get("/v2/_catalog").json == {"repositories": ["a"]}
    assert live.get("/v2/a/b/tags/list").json == {"name": "a/b", "tags": []}
    assert live.get(f"/v2/a/b/manifests/{digest}").status == 200
    writable.sweep(-1)
    assert live.get("/v2/a/b/tags/list").code == "NAME_UNKNOWN"
    assert live.get("/v2/a/manifests/1").digest == digest


def test_a_pull_under_way_finishes_though_its_blob_is_swept(writable: Tree, live: Registry) -> None:
    content = b"0123456789" * 3_000_000
    publish(writable, "large:1", manifest_of(writable, (content,)))
    layer = live.get("/v2/large/manifests/1").json["layers"][0]["digest"]
    with live.connect() as connection:
        connection.sendall(f"GET /v2/large/blobs/{layer} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        begun = connection.recv(1000)
        writable.withdraw(Reference.parse("large:1"))
        writable.sweep(-1)
        assert live.get(f"/v2/large/blobs/{layer}").status == 404
        rest = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert (begun + rest).partition(b"\r\n\r\n")[2] == content


def test_a_damaged_index_is_an_error_of_the_registry_and_not_an_unknown_name(
    writable: Tree, live: Registry, versions: list[bytes]
) -> None:
    publish(writable, "hello:1", versions[0])
    publish(writable, "well:1", versions[0])
    (writable.paths.root / "repositories" / "hello" / "_oci" / "index.json").write_bytes(b"{")
    response = live.get("/v2/hello/manifests/1")
    assert (response.status, response.code) == (500, "UNSUPPORTED")
    assert response.headers["content-type"] == "application/json"
    assert live.get("/v2/well/manifests/1").status == 200
    eventually(lambda: "repository hello: index.json is damaged" in live.said())  # a worker's, by way of its parent


@pytest.mark.parametrize("program", ["skopeo", "podman"])
def test_a_push_shows_its_user_that_the_registry_is_read_only(
    writable: Tree, live: Registry, directory: Path, versions: list[bytes], program: str
) -> None:
    publish(writable, "hello:1", versions[0])
    layout = f"oci:{writable.paths.root / 'repositories' / 'hello' / '_oci'}:1"
    target = f"docker://{live.address}/hello:2"
    command = ["skopeo", "copy", "--dest-tls-verify=false", layout, target]
    if program == "podman":
        store = Store(directory)
        image = store.build("localhost/hello:2")
        command = [*store.command, "push", "--tls-verify=false", image, target]
    done = ask(*command)
    assert done.returncode != 0
    assert "this registry is read only" in done.stderr
