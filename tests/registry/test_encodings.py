"""Blobs in a content coding: who gets them, and that they stay the blobs that their digests name."""

import asyncio
import contextlib
import gzip
import itertools
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.config import EncodingsConfig
from bridge.oci import Digest
from bridge.registry import server
from bridge.tree.encodings import encode
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree
from tests.double.gates import DEADLINE, eventually
from tests.registry.trees import Shelf
from tests.registry.wires import Answer, ask, dialled

TEXT = b"".join(b"line %d of a layer that shrinks\n" % number for number in range(40_000))
NOISE = os.urandom(100_000)
SMALL = b"small " * 100
PLENTY = 10**9


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    Shelf(tmp_path).image("app:1", TEXT, NOISE, SMALL)
    Shelf(tmp_path).image("other:1", NOISE)
    encode(tmp_path, PLENTY)
    return tmp_path


@contextlib.asynccontextmanager
async def serving(tree: Path, host: str = "127.0.0.1", *, loopback: bool = True) -> AsyncIterator[str]:
    async with server.serving(tree, server.listen(host, 0), encodings=EncodingsConfig(loopback=loopback)) as address:
        yield address


@pytest.fixture
async def address(tree: Path) -> AsyncIterator[str]:
    async with serving(tree) as address:
        yield address


def url(content: bytes, repository: str = "app") -> str:
    return f"/v2/{repository}/blobs/{Digest.of(content)}"


def is_identity(answer: Answer, content: bytes) -> bool:
    return answer.status == 200 and answer.body == content and "content-encoding" not in answer.headers


async def test_an_encoding_is_the_blob_in_another_coding_under_the_blobs_digest(address: str) -> None:
    answer = await ask(address, url(TEXT), Accept_Encoding="gzip")
    assert answer.status == 200
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == TEXT
    assert answer.headers["docker-content-digest"] == str(Digest.of(TEXT))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) < len(TEXT) / 2


async def test_each_representation_has_its_own_entity_tag(address: str) -> None:
    encoded = await ask(address, url(TEXT), Accept_Encoding="gzip")
    identity = await ask(address, url(TEXT))
    assert identity.headers["vary"] == encoded.headers["vary"]
    assert identity.headers["etag"] == f'"{Digest.of(TEXT)}"'
    assert encoded.headers["etag"] != identity.headers["etag"]
    known = await ask(address, url(TEXT), Accept_Encoding="gzip", If_None_Match=encoded.headers["etag"])
    assert known.status == 304
    assert known.headers["etag"] == encoded.headers["etag"]
    other = await ask(address, url(TEXT), If_None_Match=encoded.headers["etag"])
    assert is_identity(other, TEXT)


@pytest.mark.parametrize("accept", ["", "identity", "gzip;q=0", "br", "gzip;q=nonsense", "identity;q=0"])
async def test_a_client_that_does_not_take_gzip_gets_the_blob(address: str, accept: str) -> None:
    assert is_identity(await ask(address, url(TEXT), Accept_Encoding=accept), TEXT)


async def test_what_has_no_encoding_is_sent_as_it_is(address: str) -> None:
    for content in (NOISE, SMALL):
        assert is_identity(await ask(address, url(content), Accept_Encoding="gzip"), content)


async def test_a_range_is_of_the_blobs_own_bytes(address: str) -> None:
    encoded = await ask(address, url(TEXT), Accept_Encoding="gzip")
    for extra in ({}, {"If_Range": f'"{Digest.of(TEXT)}"'}):
        part = await ask(address, url(TEXT), Range="bytes=100000-200000", Accept_Encoding="gzip", **extra)
        assert part.status == 206
        assert part.body == TEXT[100000:200001]
        assert "content-encoding" not in part.headers
    stale = await ask(address, url(TEXT), Range="bytes=1-2", Accept_Encoding="gzip", If_Range=encoded.headers["etag"])
    assert is_identity(stale, TEXT)


async def test_a_repository_hands_out_no_encoding_of_a_blob_that_it_does_not_hold(address: str) -> None:
    answer = await ask(address, url(TEXT, "other"), Accept_Encoding="gzip")
    assert answer.status == 404
    assert answer.code == "BLOB_UNKNOWN"


async def test_a_client_on_this_machine_gets_the_blob_by_default(tree: Path) -> None:
    async with serving(tree, loopback=False) as address:
        assert is_identity(await ask(address, url(TEXT), Accept_Encoding="gzip"), TEXT)


async def test_a_client_on_this_machine_is_known_by_any_of_its_addresses(tree: Path) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        own = probe.getsockname()[0]
        async with serving(tree, "0.0.0.0", loopback=False) as address:
            answer = await ask(f"{own}:{address.rpartition(':')[2]}", url(TEXT), Accept_Encoding="gzip")
            assert is_identity(answer, TEXT)
    async with serving(tree, "::", loopback=False) as address:
        mapped = f"127.0.0.1:{address.rpartition(':')[2]}"
        with contextlib.suppress(ConnectionRefusedError):  # a system without mapped addresses
            assert is_identity(await ask(mapped, url(TEXT), Accept_Encoding="gzip"), TEXT)


async def test_dropping_all_encodings_while_clients_pull_costs_nobody_a_pull(tree: Path, address: str) -> None:
    paths = TreePaths(tree)
    stop = asyncio.Event()
    seen: list[str] = []

    async def come_and_go() -> None:
        for number in itertools.count(1):
            (paths.encodings / Digest.of(TEXT).hex).unlink(missing_ok=True)
            await asyncio.to_thread(encode, tree, PLENTY)
            if stop.is_set():
                return
            if number % 10 == 0:  # at other times it may be gone whenever a client asks
                answered = len(seen)
                await eventually(lambda answered=answered: len(seen) > answered + 1 or stop.is_set())  # type: ignore[misc]

    churn = asyncio.create_task(come_and_go())
    try:
        async with asyncio.timeout(DEADLINE), dialled(address) as line:
            while len(set(seen)) < 2:
                answer = await line.ask(url(TEXT), Accept_Encoding="gzip")
                coding = answer.headers.get("content-encoding", "identity")
                assert (gzip.decompress(answer.body) if coding == "gzip" else answer.body) == TEXT
                seen.append(coding)
    finally:
        stop.set()
        await churn


async def test_a_pull_of_an_encoding_ends_whole_though_its_file_is_gone(tree: Path, address: str) -> None:
    big = os.urandom(1_000_000).hex().encode() * 8
    Shelf(tree).image("big:1", big)
    encode(tree, PLENTY)
    async with dialled(address) as line:
        await line.send(f"GET {url(big, 'big')} HTTP/1.1\r\nHost: registry\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        await line.reader.readexactly(1)
        (TreePaths(tree).encodings / Digest.of(big).hex).unlink()
        rest = b"H" + await line.reader.readuntil(b"\r\n\r\n")
        length = int(rest.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert b"content-encoding: gzip" in rest.lower()
        assert gzip.decompress(await line.reader.readexactly(length)) == big


def test_a_tree_with_encodings_opens(tree: Path) -> None:
    with Tree(tree) as publisher:
        assert publisher.shown.publications
