"""Who gets a blob as it is whatever it accepts: HEAD, and clients that put a layer together from parts."""

import asyncio
import gzip
import json
import random
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import requests

from bridge.config import EncodingsConfig
from bridge.oci import Digest
from bridge.registry import server
from bridge.registry.exceptions import takes_identity_only
from bridge.tree.encodings import encode
from bridge.units import Pattern
from tests.registry.crews import manned, settings
from tests.registry.trees import Shelf
from tests.registry.webservers import SERVERS, served
from tests.registry.wires import Answer, ask

LAYER = random.Random(12).randbytes(2_000_000).hex().encode()
SMALL = b"small " * 100
BLOB = f"blobs/{Digest.of(LAYER)}"
CONTAINERD = "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"
CHUNK = 1 << 20


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("identity") / "tree"
    for name in ("app:1", "quay.io/org/app:1", "docker.io/library/app:1"):
        Shelf(root).image(name, LAYER, SMALL)
    encode(root, 10**9)
    return root


@pytest.fixture(params=SERVERS)
async def address(request: pytest.FixtureRequest, tree: Path) -> AsyncIterator[str]:
    async with served(request.param, tree) as address:
        yield address


PATHS = [f"/v2/app/{BLOB}", f"/v2/quay.io/org/app/{BLOB}", f"/v2/app/blobs/{Digest.of(SMALL)}", "/v2/app/manifests/1"]
MIRRORED = [f"/v2/org/app/{BLOB}?ns=quay.io", f"/v2/app/{BLOB}?ns=docker.io", "/v2/org/app/manifests/1?ns=quay.io"]


async def check_head(address: str, path: str) -> None:
    bare = await ask(address, path)
    for accept in ("gzip", "gzip, deflate, br", CONTAINERD, "*"):
        head = await ask(address, path, "HEAD", Accept_Encoding=accept)
        assert {**head.headers, "date": ""} == {**bare.headers, "date": ""}
        assert int(head.headers["content-length"]) == len(bare.body)
        assert "content-encoding" not in head.headers
        assert "blobs" not in path or head.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("path", PATHS)
async def test_a_head_tells_of_the_identity_whatever_is_accepted(address: str, path: str) -> None:
    await check_head(address, path)


@pytest.mark.parametrize("path", MIRRORED)
async def test_a_head_of_a_mirrored_image_tells_of_the_identity(tree: Path, path: str) -> None:
    async with served("podbridge", tree) as address:
        await check_head(address, path)


async def test_a_manifest_is_the_same_by_tag_and_digest_as_head_and_get(address: str) -> None:
    digest = (await ask(address, "/v2/app/manifests/1")).headers["docker-content-digest"]
    await check_head(address, f"/v2/app/manifests/{digest}")


async def test_head_and_get_of_what_is_encoded_vary_alike_and_have_their_own_tags(address: str) -> None:
    head, got = [await ask(address, f"/v2/app/{BLOB}", method, Accept_Encoding="gzip") for method in ("HEAD", "GET")]
    assert (head.headers["vary"], got.headers["vary"]) == ("Accept-Encoding", "Accept-Encoding")
    assert got.headers["content-encoding"] == "gzip"
    assert head.headers["etag"] == f'"{Digest.of(LAYER)}"' != got.headers["etag"]


async def test_a_head_with_a_range_tells_of_the_whole_blob(tree: Path) -> None:
    async with served("podbridge", tree) as address:
        head = await ask(address, f"/v2/app/{BLOB}", "HEAD", Accept_Encoding="gzip", Range="bytes=0-9")
        assert (head.status, head.headers["content-length"]) == (200, str(len(LAYER)))


async def test_requests_finds_the_length_of_a_blob(address: str) -> None:
    head = await asyncio.to_thread(requests.head, f"http://{address}/v2/app/{BLOB}", timeout=30)
    assert "gzip" in head.request.headers["Accept-Encoding"]
    assert (head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (str(len(LAYER)), "bytes")


async def test_aiohttp_finds_the_length_of_a_blob(address: str) -> None:
    async with aiohttp.ClientSession() as session, session.head(f"http://{address}/v2/app/{BLOB}") as head:
        assert "gzip" in head.request_info.headers["Accept-Encoding"]
        assert (head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (str(len(LAYER)), "bytes")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_node_finds_the_length_of_a_blob(address: str) -> None:
    program = (
        "fetch(process.argv[1], {method: 'HEAD'}).then("
        "a => console.log(JSON.stringify([a.headers.get('content-length'), a.headers.get('accept-ranges')])))"
    )
    process = await asyncio.create_subprocess_exec(
        "node", "-e", program, f"http://{address}/v2/app/{BLOB}", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert json.loads(output) == [str(len(LAYER)), "bytes"]


async def fetch_in_parts(address: str, agent: str, *, first_range: bool) -> bytes:
    """Fetch a layer as containerd 2.1 can: its parts are joined, then decoded by the coding of the first."""
    headers = {"User_Agent": agent, "Accept_Encoding": CONTAINERD}
    opening = {"Range": "bytes=0-"} if first_range else {}
    first = await ask(address, f"/v2/app/{BLOB}", **headers, **opening)
    assert first.status in (200, 206)
    length = int(first.headers["content-length"])
    starts = range(CHUNK, length, CHUNK) if length > CHUNK else range(0)
    rest = await asyncio.gather(
        *(ask(address, f"/v2/app/{BLOB}", **headers, Range=f"bytes={start}-") for start in starts)
    )
    joined = b"".join(answer.body[:CHUNK] for answer in (first, *rest)) if starts else first.body
    return gzip.decompress(joined) if first.headers.get("content-encoding") == "gzip" else joined


@pytest.mark.parametrize("agent", ["containerd/v2.1.0", "containerd/2.1.4+bottlerocket", "containerd/v2.3.4-k3s1"])
@pytest.mark.parametrize("first_range", [True, False])
async def test_a_client_that_joins_parts_gets_the_layer(address: str, agent: str, *, first_range: bool) -> None:
    assert await fetch_in_parts(address, agent, first_range=first_range) == LAYER


async def test_a_client_that_joins_parts_and_is_not_known_makes_garbage(address: str) -> None:
    with pytest.raises((OSError, EOFError, gzip.BadGzipFile)):
        await fetch_in_parts(address, "unknown/1", first_range=False)


@pytest.mark.parametrize("agent", ["containerd/v1.7.27", "containerd/v2.1.0", "skopeo/1.9.3"])
async def test_a_client_that_goes_on_after_a_cut_gets_the_rest_of_the_layer(address: str, agent: str) -> None:
    headers = {"User_Agent": agent, "Accept_Encoding": CONTAINERD}
    first = await ask(address, f"/v2/app/{BLOB}", **headers)
    whole = gzip.decompress(first.body) if "content-encoding" in first.headers else first.body
    rest = await ask(address, f"/v2/app/{BLOB}", **headers, Range=f"bytes={CHUNK}-")
    assert (rest.status, "content-encoding" in rest.headers) == (206, False)
    assert whole[:CHUNK] + rest.body == LAYER


def coding(answer: Answer) -> str:
    return answer.headers.get("content-encoding", "identity")


async def test_a_client_that_the_settings_except_gets_the_layer_as_it_is(tree: Path) -> None:
    encodings = EncodingsConfig(loopback=True, except_=(Pattern.parse("^odd/[0-9]"), Pattern.parse("(?i)strange")))
    async with server.serving(tree, server.listen("127.0.0.1", 0), encodings=encodings) as address:
        for agent, expected in (
            ("odd/1", "identity"), ("an odd/1", "gzip"), ("very Strange", "identity"), ("x" * 300 + "strange", "gzip"),
            ("containerd/v2.1.0", "identity"), ("", "gzip"),
        ):  # fmt: skip
            answer = await ask(address, f"/v2/app/{BLOB}", Accept_Encoding="gzip", User_Agent=agent)
            assert (agent, coding(answer)) == (agent, expected)
        assert await fetch_in_parts(address, "odd/1", first_range=False) == LAYER


async def test_a_reload_takes_up_who_is_excepted(tree: Path) -> None:
    config = settings(tree, loopback=True)
    async with manned(config) as crew:
        for excepted, expected in (((), "gzip"), ((Pattern("^odd/"),), "identity"), ((), "gzip")):
            await crew.reload(settings(tree, loopback=True, excepted=excepted))
            answer = await ask(crew.address, f"/v2/app/{BLOB}", Accept_Encoding="gzip", User_Agent="odd/1")
            assert coding(answer) == expected


VERSIONS = [
    ("containerd/v2.0.10", False), ("containerd/2.0.0", False), ("containerd/1.6.20~ds1", False),
    ("containerd/v1.7.27-k3s1", False), ("containerd/v2.1.0-rc.0", True), ("containerd/v2.1.0", True),
    ("containerd/2.1.3+unknown", True), ("containerd/2.1.4+bottlerocket", True), ("containerd/v2.1.5-k3s1", True),
    ("containerd/v2.2.7-123-gabcdef0.m", True), ("containerd/2.2.0~rc1-0ubuntu1", True), ("containerd/2.10.0", True),
    ("containerd/v2.4.0-beta.0", True), ("containerd/v3.0.0", True), ("Containerd/2.1.0", True),
    ("tool/1 containerd/2.1.0", True), ("containerd/2.x", False), ("containerd/5b2eee8a2.m", False),
    ("docker/28.0.1 containerd-client/2.1.1", False), ("mycontainerd/2.1.0", False), ("buildkit/v0.21", False),
]  # fmt: skip


@pytest.mark.parametrize(("agent", "splits"), VERSIONS)
def test_a_version_is_read_from_every_form_of_it(agent: str, splits: bool) -> None:
    assert takes_identity_only([agent], ()) is splits


async def test_a_long_name_costs_no_more_than_a_short_one() -> None:
    pattern = Pattern.parse("a*.*b$")
    finished = threading.Event()

    def match() -> None:
        for number in range(20):
            takes_identity_only([f"{number}" + "a" * 30_000], (pattern,))
        finished.set()

    async with asyncio.timeout(30):
        await asyncio.to_thread(match)
    assert finished.is_set()
