"""HTTP itself: versions, pipelining, expectations, limits, and errors that never leave the specification's JSON."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.oci import Digest
from bridge.registry import server
from bridge.registry.connection import LIMITS
from bridge.registry.errors import Problem
from bridge.registry.request import parse
from tests.double.gates import DEADLINE
from tests.registry.trees import Shelf
from tests.registry.wires import Line, ask, dialled, served, until

LAYER = b"layer" * 100
CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    Shelf(tmp_path).image("app:1", LAYER)
    async with served(tmp_path) as address:
        yield address


def test_every_error_has_a_code_of_the_specification() -> None:
    assert {problem.code for problem in Problem} <= CODES


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/v2/", "/v2/app/manifests/1", "/v2/app/blobs/uploads/", "/elsewhere"])
async def test_a_write_is_answered_with_what_to_do_instead(address: str, method: str, path: str) -> None:
    answer = await ask(address, path, method)
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, "UNSUPPORTED", "GET, HEAD")
    assert "podbridge publish" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/", 404, "UNSUPPORTED"), ("/v1/", 404, "UNSUPPORTED"), ("/v2/app", 404, "UNSUPPORTED"),
        ("/v2/app/manifests/", 400, "MANIFEST_INVALID"), ("/v2/app/manifests/..", 400, "MANIFEST_INVALID"),
        ("/v2/app/manifests/%2e%2e", 400, "MANIFEST_INVALID"), ("/v2/app/manifests/%00", 400, "MANIFEST_INVALID"),
        ("/v2/app/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
        ("/v2/app/manifests/-x", 404, "MANIFEST_UNKNOWN"), ("/v2/app/manifests/2", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/app/manifests/{'a' * 300}", 400, "MANIFEST_INVALID"),
        (f"/v2/app/manifests/.{'a' * 300}", 400, "MANIFEST_INVALID"),
        ("/v2/app/manifests/sha256:totallywrong", 400, "DIGEST_INVALID"),
        ("/v2/../manifests/1", 400, "NAME_INVALID"), ("/v2/App/manifests/1", 400, "NAME_INVALID"),
        ("/v2/app%00/tags/list", 400, "NAME_INVALID"), ("/v2/%2e%2e/%2e%2e/tags/list", 400, "NAME_INVALID"),
        ("/v2/no/tags/list", 404, "NAME_UNKNOWN"), ("/v2/no/manifests/1", 404, "NAME_UNKNOWN"),
        (f"/v2/no/blobs/{Digest.of(b'')}", 404, "NAME_UNKNOWN"),
        (f"/v2/app/blobs/{Digest.of(b'')}", 404, "BLOB_UNKNOWN"),
        (f"/v2/app/blobs/{str(Digest.of(b'')).upper()}", 400, "DIGEST_INVALID"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_is_not_there_says_so_in_the_specifications_words(
    address: str, path: str, status: int, code: str, method: str
) -> None:
    answer = await ask(address, path, method)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert method == "HEAD" or answer.code == code


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/1", "blob", "empty"])
async def test_a_head_has_the_headers_of_a_get(address: str, tmp_path: Path, path: str) -> None:
    Shelf(tmp_path).image("app:2", b"")
    path = {"blob": f"/v2/app/blobs/{Digest.of(LAYER)}", "empty": f"/v2/app/blobs/{Digest.of(b'')}"}.get(path, path)
    get, head = await ask(address, path), await ask(address, path, "HEAD")
    assert {**get.headers, "date": ""} == {**head.headers, "date": ""}
    assert head.headers["content-length"] == str(len(get.body))


async def test_http_1_0_closes_unless_asked_not_to(address: str) -> None:
    for path in ("/v2/app/manifests/1", f"/v2/app/blobs/{Digest.of(LAYER)}"):
        async with dialled(address) as line:
            await line.send(f"GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
            answer = await line.answer()
            assert (answer.status, answer.version, answer.headers["connection"]) == (200, "HTTP/1.0", "keep-alive")
            await line.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert (await line.answer()).body == answer.body
            assert await line.closed()


async def test_connection_close_closes(address: str) -> None:
    async with dialled(address) as line:
        assert (await line.ask("/v2/", Connection="close")).headers["connection"] == "close"
        assert await line.closed()


@pytest.mark.parametrize("count", [1, 3])
async def test_a_client_that_closes_its_side_behind_its_requests_is_answered(tmp_path: Path, count: int) -> None:
    """So do `nc -N`, socat and small HTTP/1.0 programs."""
    large = os.urandom(3_000_000)
    Shelf(tmp_path).image("app:1", large)
    for path in ("/v2/", "/v2/app/manifests/1", f"/v2/app/blobs/{Digest.of(large)}", "/v2/no/tags/list"):
        async with served(tmp_path) as address, dialled(address) as line:
            await line.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * count)
            line.writer.write_eof()
            answers = [await line.answer() for _ in range(count)]
            assert [answer.status for answer in answers] == [404 if "no/" in path else 200] * count
            assert await line.closed()


@pytest.mark.parametrize("begun", [b"", b"GET /v2/ HT"])
async def test_a_client_that_closes_its_side_with_nothing_asked_is_let_go(address: str, begun: bytes) -> None:
    async with dialled(address) as line:
        await line.send(begun)
        line.writer.write_eof()
        assert await line.closed()


async def test_pipelined_requests_are_answered_in_order(address: str) -> None:
    paths = ["/v2/", "/v2/app/tags/list", f"/v2/app/blobs/{Digest.of(LAYER)}", "/v2/no/tags/list"] * 20
    async with dialled(address) as line:
        await line.send(b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths))
        answers = [await line.answer() for _ in paths]
    assert [answer.status for answer in answers] == [200, 200, 200, 404] * 20
    assert answers[2].body == LAYER


async def test_an_expectation_is_answered_without_the_body(address: str) -> None:
    async with dialled(address) as line:
        head = "PUT /v2/app/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        await line.send(head.encode())
        answer = await line.answer("PUT")
        assert (answer.status, answer.code, answer.headers["connection"]) == (405, "UNSUPPORTED", "close")


async def test_the_body_of_a_refused_write_is_not_kept(address: str) -> None:
    async with dialled(address) as line:
        await line.send(b"PATCH /v2/app/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        await line.send(bytes(30_000_000))
        assert (await line.answer("PATCH")).status == 405


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400), (b"GET /v2/ HTTP/9.9\r\n\r\n", 400), (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /v2/" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
    ],
    ids=["line", "version", "tls", "length", "long line", "long header", "many headers"],
)  # fmt: skip
async def test_what_is_not_http_is_refused_in_json_and_closed(
    address: str, raw: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with dialled(address) as line:
        await line.send(raw)
        answer = await line.answer()
        assert (answer.status, answer.code) == (status, "UNSUPPORTED")
        assert await line.closed()
    assert caplog.records == []


async def test_a_long_list_of_ranges_fits_into_a_header(address: str) -> None:
    answer = await ask(address, f"/v2/app/blobs/{Digest.of(LAYER)}", Range="bytes=" + "0-99," * 6000)
    assert answer.status == 206


async def test_an_unreadable_tree_is_an_error_in_json_and_in_the_log(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "repositories/app/_oci/index.json").write_text("{")
    answer = await ask(address, "/v2/app/manifests/1")
    assert (answer.status, answer.code) == (500, "UNSUPPORTED")
    assert "tree cannot be read" in caplog.text


async def test_a_blob_that_ends_early_cuts_the_connection(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = os.urandom(1 << 20) * 60  # more than what a connection holds that nobody reads from
    Shelf(tmp_path).image("app:2", content)
    async with dialled(address) as line:
        await line.send(f"GET /v2/app/blobs/{Digest.of(content)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await line.reader.readuntil(b"\r\n\r\n")
        os.truncate(tmp_path / "blobs/sha256" / Digest.of(content).hex, 50 << 20)
        received = await _drain(line)
    assert f"Content-Length: {len(content)}".encode() in head
    assert received < len(content)
    assert "tree is damaged" in caplog.text


async def _drain(line: Line) -> int:
    """Read to the end, however it comes, and return how many bytes there were."""
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := await asyncio.wait_for(line.reader.read(1 << 20), DEADLINE):
            received += len(chunk)
    return received


async def test_sha512_blobs_are_served(address: str, tmp_path: Path) -> None:
    digest = Shelf(tmp_path).put_sha512("app", b"by another algorithm")
    answer = await ask(address, f"/v2/app/blobs/{digest}")
    assert (answer.body, answer.headers["docker-content-digest"]) == (b"by another algorithm", digest)


async def test_a_connection_that_says_nothing_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(LIMITS, idle_seconds=2.0, head_seconds=60.0)  # enough to ask first on the busiest machine
    monkeypatch.setattr(server, "LIMITS", limits)
    async with (
        served(tmp_path) as address,
        dialled(address) as mute,
        dialled(address) as slow,
        dialled(address) as line,
    ):
        assert (await line.ask("/v2/")).status == 200
        await slow.send(b"GET /v2/ HTTP/1.1\r\nHost: ")
        assert await asyncio.gather(*(one.closed() for one in (mute, slow, line))) == [True] * 3


async def test_a_stalled_reader_is_cut_and_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED", 2.0)  # more than a reader on the busiest machine needs to go on
    content = os.urandom(1 << 20) * 64
    Shelf(tmp_path).image("app:1", content)
    async with served(tmp_path) as address:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        host, _, port = address.rpartition(":")
        sockets = [socket.create_connection((host, int(port))) for _ in range(20)]
        for stalled in sockets:
            stalled.sendall(f"GET /v2/app/blobs/{Digest.of(content)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await ask(address, f"/v2/app/blobs/{Digest.of(content)}")).body == content
        await until(lambda: _open_blobs(tmp_path) == 0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        for stalled in sockets:
            stalled.close()
    assert grown < 200 * 1024  # KiB: the one whole body that this test itself holds, twice


def _open_blobs(tree: Path) -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += link.readlink().is_relative_to(tree / "repositories")
    return count


async def test_a_client_that_pipelines_and_never_reads_is_held_back(tmp_path: Path) -> None:
    Shelf(tmp_path).image("app:1", LAYER, annotations={"long": "x" * 50_000})
    async with served(tmp_path) as address, dialled(address) as line:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        request = b"GET /v2/app/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(line.send(request * 200_000), 1.5)
        assert (await ask(address, "/v2/")).status == 200
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024


async def test_a_thousand_idle_connections_are_no_matter(address: str) -> None:
    async with asyncio.timeout(DEADLINE):
        idle = [await asyncio.open_connection(*address.split(":")) for _ in range(1000)]
        answers = await asyncio.gather(*(ask(address, "/v2/app/manifests/1") for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    for _, writer in idle:
        writer.transport.abort()


async def test_one_connection_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LIMITS", replace(LIMITS, connections=2))
    async with served(tmp_path) as address:
        async with dialled(address) as first, dialled(address) as second:
            for line in (first, second):
                assert (await line.ask("/v2/")).status == 200
            async with dialled(address) as third:
                answer = await third.answer()
                assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "TOOMANYREQUESTS", "1")
                assert await third.closed()
        async with asyncio.timeout(DEADLINE):
            while await _refused(address):
                pass


async def _refused(address: str) -> bool:
    try:
        return (await ask(address, "/v2/")).status == 503
    except ConnectionError:
        return True  # it was closed with the request unread


def test_an_absolute_target_is_read_as_its_path() -> None:
    assert parse("http://registry/v2/?x=://y") == parse("/v2/")
