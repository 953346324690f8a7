"""Ranges of blobs, and the bytes that come back."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.oci import Digest
from bridge.registry.ranges import select
from tests.registry.trees import Shelf
from tests.registry.wires import Answer, ask, dialled, served

SMALL, LARGE = os.urandom(1000), os.urandom(300_000)


def url(content: bytes) -> str:
    return f"/v2/app/blobs/{Digest.of(content)}"


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    Shelf(tmp_path).image("app:1", SMALL, LARGE)
    async with served(tmp_path) as address:
        yield address


def parts(answer: Answer) -> list[tuple[str, bytes]]:
    """Take a multipart/byteranges body apart: (Content-Range, bytes) of each part."""
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    *pieces, end = answer.body.split(b"\r\n--" + boundary)
    assert end == b"--\r\n"
    found = []
    for piece in pieces[1:]:
        head, _, body = piece.partition(b"\r\n\r\n")
        found.append((head.decode().partition("Content-Range: ")[2].partition("\r\n")[0], body))
    return found


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [("0-99", 0, 100), ("10-10", 10, 11), ("900-", 900, None), ("-50", -50, None), ("900-99999999", 900, None),
     ("-99999999", 0, None), ("0-", 0, None), (" 5-6 ", 5, 7), ("0-9,5-19", 0, 20), ("0-9,99999999-", 0, 10)],
)  # fmt: skip
async def test_a_range_gives_its_bytes_and_says_which(
    address: str, content: bytes, header: str, start: int, stop: int | None
) -> None:
    answer = await ask(address, url(content), Range=f"bytes={header}")
    first, last = slice(start, stop).indices(len(content))[:2]
    assert (answer.status, answer.body) == (206, content[first:last])
    assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{len(content)}"
    assert answer.headers["docker-content-digest"] == str(Digest.of(content))


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("header", ["lines=0-9", "bytes=9-5", "bytes=x-y", "bytes=", "bytes", "bytes=-", "bytes=1-2-3"])
async def test_a_range_header_that_is_none_is_ignored(address: str, content: bytes, header: str) -> None:
    answer = await ask(address, url(content), Range=header)
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("header", ["bytes=300000-", "bytes=-0", "bytes=999999-1000000,-0"])
async def test_a_range_outside_the_blob_is_refused_with_its_size(address: str, content: bytes, header: str) -> None:
    answer = await ask(address, url(content), Range=header)
    assert (answer.status, answer.code) == (416, "SIZE_INVALID")
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


async def test_any_range_of_an_empty_blob_gives_the_empty_blob(tmp_path: Path) -> None:
    Shelf(tmp_path).image("app:1", b"")
    async with served(tmp_path) as address:
        for header in ("bytes=0-", "bytes=-5"):
            answer = await ask(address, url(b""), Range=header)
            assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


async def test_a_head_ignores_the_range(address: str) -> None:
    answer = await ask(address, url(LARGE), "HEAD", Range="bytes=0-9")
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(LARGE)))


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_several_ranges_come_as_parts_in_the_order_asked_for(address: str, content: bytes) -> None:
    answer = await ask(address, url(content), Range="bytes=500-599,0-99,-10")
    size = len(content)
    assert answer.status == 206
    assert parts(answer) == [
        (f"bytes 500-599/{size}", content[500:600]),
        (f"bytes 0-99/{size}", content[:100]),
        (f"bytes {size - 10}-{size - 1}/{size}", content[-10:]),
    ]


async def test_parts_large_and_small_come_in_order(address: str) -> None:
    answer = await ask(address, url(LARGE), Range="bytes=0-9,1000-150000,200000-299999")
    assert [body for _, body in parts(answer)] == [LARGE[:10], LARGE[1000:150001], LARGE[200000:]]


async def test_hundreds_of_ranges_are_answered(address: str) -> None:
    spans = [(start, start + 99) for start in range(0, 300_000, 300)]
    answer = await ask(address, url(LARGE), Range="bytes=" + ",".join(f"{a}-{b}" for a, b in spans))
    assert [body for _, body in parts(answer)] == [LARGE[a : b + 1] for a, b in spans]


async def test_overlapping_ranges_never_send_a_byte_twice(address: str) -> None:
    answer = await ask(address, url(LARGE), Range="bytes=" + ",".join(["0-"] * 1000))
    assert (answer.status, answer.body) == (206, LARGE)
    assert answer.headers["content-range"] == f"bytes 0-{len(LARGE) - 1}/{len(LARGE)}"


async def test_if_range_counts_the_range_only_for_the_same_bytes(address: str) -> None:
    etag = f'"{Digest.of(SMALL)}"'
    assert (await ask(address, url(SMALL), Range="bytes=0-9", If_Range=etag)).status == 206
    for other in ('"sha256:other"', f"W/{etag}", "Mon, 23 Nov 2026 22:57:43 GMT"):
        answer = await ask(address, url(SMALL), Range="bytes=0-9", If_Range=other)
        assert (answer.status, answer.body) == (200, SMALL)


async def test_a_connection_goes_on_after_ranges(address: str) -> None:
    async with dialled(address) as line:
        for header in ("bytes=0-9", "bytes=0-9,20-29", "bytes=0-99999,200000-", "bytes=400000-", "bytes=0-"):
            await line.ask(url(LARGE), Range=header)
        assert (await line.ask("/v2/")).body == b"{}"


async def test_a_client_that_vanishes_in_a_blob_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = os.urandom(1 << 20) * 40
    Shelf(tmp_path).image("app:1", content)
    async with served(tmp_path) as address:
        for header in ("", "Range: bytes=0-9,1000-30000000\r\n"):
            async with dialled(address) as line:
                await line.send(f"GET {url(content)} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
                await line.reader.readexactly(100_000)
        assert (await ask(address, "/v2/")).status == 200
        await asyncio.sleep(0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


SPEC = st.one_of(
    st.tuples(st.integers(0, 120), st.integers(0, 120)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.integers(0, 120).map(lambda first: f"{first}-"),
    st.integers(0, 120).map(lambda last: f"-{last}"),
)


def wanted(spec: str, size: int) -> set[int]:
    first, _, last = spec.partition("-")
    if not first:
        return set(range(max(0, size - int(last)), size))
    return set(range(int(first), min(size, int(last or size) + 1)))


@given(st.lists(SPEC, min_size=1, max_size=8), st.integers(1, 100))
def test_the_spans_are_what_was_asked_for_and_each_byte_once(specs: list[str], size: int) -> None:
    spans = select("bytes=" + ",".join(specs), size)
    assert spans is not None
    positions = [position for span in spans for position in range(span.start, span.stop)]
    assert len(positions) == len(set(positions))
    assert set(positions) == set().union(*(wanted(spec, size) for spec in specs))


@given(st.text(max_size=40), st.integers(0, 100))
def test_no_range_header_is_too_strange(header: str, size: int) -> None:
    spans = select(header, size)
    assert spans is None or all(0 <= span.start < span.stop <= size for span in spans)
