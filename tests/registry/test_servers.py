"""One table for both servers of a tree, podbridge and nginx: what the one answers, the other answers too."""

import asyncio
import gzip
import hashlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bridge.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Digest, Reference
from bridge.tree.encodings import encode
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree
from tests.registry.trees import Shelf
from tests.registry.webservers import SERVERS, served
from tests.registry.wires import ask, dialled
from tests.tree import making

TEXT = b"".join(b"line %d of a layer that shrinks\n" % number for number in range(40_000))
NOISE = random.Random(4).randbytes(100_000)
SMALL = b"small " * 100
BLOB, NOISY, LITTLE = (str(Digest.of(content)) for content in (TEXT, NOISE, SMALL))
NONE = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("servers") / "tree"
    shelf = Shelf(root)
    shelf.image("app:1", TEXT, NOISE, SMALL)
    shelf.image("app:Beta", SMALL)
    shelf.image("org/team/other:v1.0_x-Y", NOISE)
    docker = shelf.image("docker:1", SMALL, mediaType=DOCKER_MANIFEST)
    oci = shelf.image("index:member", SMALL)
    for reference, kind, member in (("index:1", OCI_INDEX, oci), ("list:1", DOCKER_LIST, docker)):
        value = {"schemaVersion": 2, "mediaType": kind, "manifests": [member.to_json()]}
        shelf.publish(reference, json.dumps(value).encode(), kind)
    encode(root, 10**9)
    return root


@pytest.fixture(params=SERVERS)
async def address(request: pytest.FixtureRequest, tree: Path) -> AsyncIterator[str]:
    async with served(request.param, tree) as address:
        yield address


@dataclass(frozen=True)
class Row:
    """A request, and what comes back: a status, an error's code, headers, a body."""

    path: str
    status: int = 200
    code: str = ""
    method: str = "GET"
    send: dict[str, str] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None


def identity(digest: str, content: bytes, **send: str) -> Row:
    headers = {
        "docker-content-digest": digest, "etag": f'"{digest}"', "content-encoding": None,
        "content-length": str(len(content)), "content-type": "application/octet-stream", "vary": "Accept-Encoding",
        "cache-control": "public, max-age=31536000, immutable", "accept-ranges": "bytes",
    }  # fmt: skip
    return Row(f"/v2/app/blobs/{digest}", send=send, headers=headers, body=content)


def part(wanted: str, start: int, stop: int, **send: str) -> Row:
    size = len(TEXT)
    headers = {"content-range": f"bytes {start}-{stop - 1}/{size}", "content-encoding": None}
    return Row(f"/v2/app/blobs/{BLOB}", 206, send={"Range": wanted} | send, headers=headers, body=TEXT[start:stop])


JSON: dict[str, str | None] = {"content-type": "application/json", "docker-distribution-api-version": "registry/2.0"}
TABLE = [
    Row("/v2/", headers=JSON, body=b"{}"),
    Row("/v2", headers=JSON, body=b"{}"),
    Row(
        "/v2/_catalog", headers=JSON, body=b'{"repositories":["app","docker","index","list","org/team/other"]}'
    ),
    Row("/v2/app/tags/list", headers=JSON, body=b'{"name":"app","tags":["1","Beta"]}'),
    Row("/v2/org/team/other/tags/list", headers=JSON, body=b'{"name":"org/team/other","tags":["v1.0_x-Y"]}'),
    Row("/v2/none/tags/list", 404, "NAME_UNKNOWN"),
    Row("/v2/org/team/tags/list", 404, "NAME_UNKNOWN"),
    Row("/v2/none/manifests/1", 404, "NAME_UNKNOWN"),
    Row(f"/v2/none/blobs/{BLOB}", 404, "NAME_UNKNOWN"),
    Row("/v2/app/manifests/2", 404, "MANIFEST_UNKNOWN"),
    Row("/v2/app/manifests/beta", 404, "MANIFEST_UNKNOWN"),
    Row(f"/v2/app/manifests/{NONE}", 404, "MANIFEST_UNKNOWN"),
    Row(f"/v2/app/manifests/{BLOB}", 404, "MANIFEST_UNKNOWN"),
    Row("/v2/app/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
    Row(f"/v2/app/blobs/{NONE}", 404, "BLOB_UNKNOWN"),
    Row(f"/v2/org/team/other/blobs/{BLOB}", 404, "BLOB_UNKNOWN"),
    Row(f"/v2/org/team/other/blobs/{BLOB}", 404, "BLOB_UNKNOWN", send={"Accept-Encoding": "gzip"}),
    Row("/v2/App/manifests/1", 400, "NAME_INVALID"),
    Row("/v2/_oci/tags/list", 400, "NAME_INVALID"),
    Row("/v2/app/manifests/a%20b", 400, "MANIFEST_INVALID"),
    Row("/v2/app/manifests/sha256:12", 400, "DIGEST_INVALID"),
    Row("/v2/app/blobs/sha256:12", 400, "DIGEST_INVALID"),
    Row("/", 404, "UNSUPPORTED"),
    Row("/etc/passwd", 404, "UNSUPPORTED"),
    Row("/:blob1", 404, "UNSUPPORTED"),
    Row("/repositories/app/_oci/index.json", 404, "UNSUPPORTED"),
    *(Row("/v2/app/manifests/1", 405, "UNSUPPORTED", method, headers={"allow": "GET, HEAD"})
      for method in ("PUT", "DELETE", "PATCH", "POST")),
    Row("/v2/app/blobs/uploads/", 405, "UNSUPPORTED", "POST"),
    identity(BLOB, TEXT),
    identity(BLOB, TEXT, Accept_Encoding="identity"),
    identity(BLOB, TEXT, Accept_Encoding="gzip;q=0"),
    identity(BLOB, TEXT, Accept_Encoding="gzip;q=2"),
    identity(BLOB, TEXT, Accept_Encoding="br, deflate"),
    identity(NOISY, NOISE, Accept_Encoding="gzip"),
    identity(LITTLE, SMALL, Accept_Encoding="gzip"),
    identity(BLOB, TEXT, Range="bytes=0-1", If_Range='"other"'),
    identity(BLOB, TEXT, If_None_Match=f'W/"{BLOB}+gzip"'),
    Row(f"/v2/app/blobs/{BLOB}", 304, send={"If-None-Match": f'"x", "{BLOB}"'}, headers={"etag": f'"{BLOB}"'}),
    Row(
        f"/v2/app/blobs/{BLOB}", 304, send={"If-None-Match": f'W/"{BLOB}+gzip"', "Accept-Encoding": "gzip"},
        headers={"etag": f'W/"{BLOB}+gzip"', "vary": "Accept-Encoding"},
    ),
    *(replace(identity(BLOB, TEXT, Accept_Encoding=accept), method="HEAD", body=b"")
      for accept in ("", "gzip", "gzip, deflate", "gzip, deflate, br", "*", "identity;q=0, gzip")),
    replace(identity(BLOB, TEXT, Accept_Encoding="gzip", If_None_Match=f'W/"{BLOB}+gzip"'), method="HEAD", body=b""),
    Row(
        f"/v2/app/blobs/{BLOB}", 304, method="HEAD", send={"If-None-Match": f'"{BLOB}"', "Accept-Encoding": "gzip"},
        headers={"etag": f'"{BLOB}"', "content-encoding": None},
    ),
    *(identity(BLOB, TEXT, Accept_Encoding="zstd;q=1.0, gzip;q=0.8, deflate;q=0.5", User_Agent=agent)
      for agent in ("containerd/v2.1.0", "containerd/2.1.4+bottlerocket", "containerd/2.2.0-rc.1", "containerd/3.0")),
    part("bytes=0-", 0, len(TEXT), Accept_Encoding="gzip", User_Agent="containerd/v2.1.0"),
    part("bytes=1000-1999", 1000, 2000, Accept_Encoding="gzip", User_Agent="containerd/v2.1.0"),
    part("bytes=0-0", 0, 1),
    part("bytes=10-19", 10, 20, Accept_Encoding="gzip"),
    part("bytes=-5", len(TEXT) - 5, len(TEXT)),
    part("bytes=100-", 100, len(TEXT)),
    part("bytes=100-99999999", 100, len(TEXT)),
    part("bytes=1-2", 1, 3, If_Range=f'"{BLOB}"'),
    Row(
        f"/v2/app/blobs/{BLOB}", 416, "SIZE_INVALID", send={"Range": "bytes=99999999-"},
        headers={"content-range": f"bytes */{len(TEXT)}"},
    ),
]  # fmt: skip


async def test_every_row_of_the_table_holds(address: str) -> None:
    wrong: list[object] = []
    async with dialled(address) as line:
        for row in TABLE:
            answer = await line.ask(row.path, row.method, **row.send)
            found = {name: answer.headers.get(name) for name in row.headers}
            if (answer.status, found) != (row.status, row.headers):
                wrong.append((row.path, row.send, answer.status, found))
            elif row.code and answer.code != row.code:
                wrong.append((row.path, row.send, answer.status, answer.body))
            elif row.body is not None and answer.body != row.body:
                wrong.append((row.path, row.send, answer.status, answer.body[:80]))
    assert wrong == []


@pytest.mark.parametrize(
    "accept", ["gzip", "GZIP", "deflate, gzip", "zstd;q=1.0, gzip;q=0.8", "gzip;q=0.001", "x-gzip"]
)
async def test_a_client_that_takes_gzip_gets_the_encoding_under_the_blobs_digest(address: str, accept: str) -> None:
    answer = await ask(address, f"/v2/app/blobs/{BLOB}", Accept_Encoding=accept)
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == TEXT
    assert answer.headers["docker-content-digest"] == BLOB
    assert answer.headers["etag"] == f'W/"{BLOB}+gzip"'
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "agent",
    ["containerd/v1.7.27", "containerd/1.6.20~ds1", "containerd/v2.0.10-k3s1", "buildkit/v0.21", "mycontainerd/2.1.0"],
)
async def test_a_client_that_joins_no_parts_gets_the_encoding(address: str, agent: str) -> None:
    answer = await ask(address, f"/v2/app/blobs/{BLOB}", Accept_Encoding="gzip", User_Agent=agent)
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_client_on_this_machine_gets_no_encoding_by_default(kind: str, tree: Path) -> None:
    async with served(kind, tree, loopback=False) as address:
        answer = await ask(address, f"/v2/app/blobs/{BLOB}", Accept_Encoding="gzip")
        assert (answer.headers.get("content-encoding"), answer.body) == (None, TEXT)


@pytest.mark.parametrize(
    ("reference", "media_type"),
    [("app:1", OCI_MANIFEST), ("docker:1", DOCKER_MANIFEST), ("index:1", OCI_INDEX), ("list:1", DOCKER_LIST)],
)
async def test_a_manifest_comes_with_its_type_and_digest_by_tag_by_digest_and_as_head(
    address: str, reference: str, media_type: str
) -> None:
    name, _, tag = reference.partition(":")
    by_tag = await ask(address, f"/v2/{name}/manifests/{tag}")
    digest = f"sha256:{hashlib.sha256(by_tag.body).hexdigest()}"
    by_digest = await ask(address, f"/v2/{name}/manifests/{digest}")
    for answer, caching in ((by_tag, "no-cache"), (by_digest, "public, max-age=31536000, immutable")):
        assert answer.body == by_tag.body
        assert answer.headers["content-type"] == media_type
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["etag"] == f'"{digest}"'
        assert answer.headers["cache-control"] == caching
    for path in (tag, digest):
        head = await ask(address, f"/v2/{name}/manifests/{path}", "HEAD")
        assert int(head.headers["content-length"]) == len(by_tag.body)
        assert head.headers["docker-content-digest"] == digest
        known = await ask(address, f"/v2/{name}/manifests/{path}", If_None_Match=f'"{digest}"')
        assert known.status == 304


@pytest.mark.parametrize("kind", SERVERS)
async def test_what_is_published_and_withdrawn_shows_at_once(kind: str, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "tree")
    shelf.image("app:1", SMALL)
    async with served(kind, shelf.root) as address:
        for number in range(2, 6):
            shelf.image(f"new/{number}:1", b"%d" % number)
            assert (await ask(address, f"/v2/new/{number}/manifests/1")).status == 200
            catalog = (await ask(address, "/v2/_catalog")).json["repositories"]
            assert f"new/{number}" in catalog
            shelf.withdraw(f"new/{number}:1")
            assert (await ask(address, f"/v2/new/{number}/manifests/1")).code == "MANIFEST_UNKNOWN"


async def hammer(address: str, done: asyncio.Event) -> set[tuple[str, str]]:
    seen = set()
    async with dialled(address) as line:
        while not done.is_set():
            answer = await line.ask("/v2/app/manifests/1")
            assert answer.status == 200
            assert answer.headers["docker-content-digest"] == str(Digest.of(answer.body))
            assert answer.headers["content-type"] == answer.json["mediaType"]
            seen.add((answer.headers["docker-content-digest"], answer.headers["content-type"]))
    return seen


@pytest.mark.parametrize("kind", SERVERS)
async def test_digest_type_and_bytes_never_disagree_while_a_tag_moves(kind: str, tmp_path: Path) -> None:
    moves, done = 400, asyncio.Event()
    with Tree(tmp_path / "tree") as tree:
        image = making.image(tree, SMALL)
        shown = [making.publication("app:1", item) for item in (image, making.index(tree, image), making.image(tree))]
        tree.publish(shown[0])

        def move() -> None:
            for number in range(moves):
                tree.publish(shown[number % 3])

        async with served(kind, tree.paths.root) as address, asyncio.TaskGroup() as group:
            clients = [group.create_task(hammer(address, done)) for _ in range(4)]
            try:
                await asyncio.to_thread(move)
            finally:
                done.set()
        expected = {(str(item.descriptor.digest), item.descriptor.media_type) for item in shown}
        assert set().union(*(client.result() for client in clients)) == expected


def test_views_are_rebuilt_at_the_start_and_removed_before_the_index(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.image("app:1", SMALL)
    paths = TreePaths(tmp_path).repositories / "app"
    (paths / "_references" / "1").unlink()
    (paths / "_references" / "stray").symlink_to("../_manifests/nothing")
    (paths / "_manifests" / "stray").touch()
    with Tree(tmp_path) as tree:
        assert (paths / "_references" / "1").is_file()
        assert not (paths / "_references" / "stray").is_symlink()
        assert not (paths / "_manifests" / "stray").exists()
        tree.withdraw(Reference.parse("app:1"))
        assert not (paths / "_references" / "1").is_symlink()
        tree.sweep(-10)
        assert not paths.exists()
