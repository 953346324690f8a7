"""What a client may cost: heads, time, what is held, connections; and attacks, measured at a worker.

docs/registry.md has the bounds, and the costs of the attacks in full.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.limits import KIB, Limits
from bridge.registry import server
from bridge.registry.connection import LIMITS, LIMITS_WITH_TLS
from tests.double.gates import DEADLINE
from tests.registry import attacks
from tests.registry.attacks import MIB, Attack, cost
from tests.registry.entrance import Certificates, guarded
from tests.registry.trees import Shelf
from tests.registry.wires import ask, dialled, served

HEAD = LIMITS.head
Bounding = Callable[..., None]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path / "tls")


@pytest.fixture
def bounding(monkeypatch: pytest.MonkeyPatch) -> Bounding:
    """A function that has registries start with other limits."""

    def change(**limits: float) -> None:
        for name in ("LIMITS", "LIMITS_WITH_TLS"):
            other: Limits = replace(getattr(server, name), **limits)
            monkeypatch.setattr(server, name, other)

    return change


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    Shelf(tmp_path).image("app:1", b"layer")
    async with served(tmp_path) as address:
        yield address


def head(size: int, fields: int = 10) -> bytes:
    """Return a head of exactly so many bytes."""
    begin = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * fields
    return begin + b"Y: " + b"y" * (size - len(begin) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("fields", [0, 10, 90])
async def test_the_head_is_bounded_as_a_whole(address: str, fields: int) -> None:
    async with dialled(address) as line:
        await line.send(head(HEAD, fields))
        assert (await line.answer()).status == 200
        await line.send(head(HEAD + 1, fields))
        answer = await line.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (431, "UNSUPPORTED", "close")
        assert await line.closed()


@pytest.mark.parametrize(
    "raw",
    [
        head(3_000_000, 0),
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + (b"Accept: " + b"a" * 20_000 + b"\r\n") * 50,
        b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\n" + b"X: y\r\n" * 6000,
        b"GET /v2/ HTTP/1.1\r\n" + b"X" * 1_000_000,
    ],
    ids=["one field", "many fields", "small fields", "a name"],
)
async def test_a_head_of_megabytes_is_refused_and_the_answer_arrives(address: str, raw: bytes) -> None:
    async with dialled(address) as line:
        with contextlib.suppress(ConnectionError):
            await line.send(raw)
        answer = await line.answer()
        assert (answer.status, answer.code) == (431, "UNSUPPORTED")
        assert await line.closed()


async def test_a_long_head_behind_an_honest_request_is_refused_after_its_answer(address: str) -> None:
    async with dialled(address) as line:
        await line.send(head(200) + head(HEAD + 1))
        assert [(await line.answer()).status for _ in range(2)] == [200, 431]


async def test_empty_lines_before_a_request_are_no_part_of_its_head(address: str) -> None:
    async with dialled(address) as line:
        for _ in range(3):
            await line.send(b"\r\n" * HEAD + head(HEAD))
            assert (await line.answer()).status == 200


@pytest.mark.parametrize("begun", [b"G", b"GET /v2/ HTTP/1.1\r\n", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"])
@pytest.mark.parametrize("before", [0, 2])
async def test_a_head_has_to_be_complete_in_time(tmp_path: Path, bounding: Bounding, begun: bytes, before: int) -> None:
    bounding(head_seconds=0.3)
    async with served(tmp_path) as address, dialled(address) as line:
        await line.send(head(100) * before + begun)
        assert [(await line.answer()).status for _ in range(before)] == [200] * before
        answer = await line.answer()
        assert (answer.status, answer.code) == (408, "UNSUPPORTED")
        assert await line.closed()


async def test_a_head_that_trickles_is_cut_off_too(tmp_path: Path, bounding: Bounding) -> None:
    bounding(head_seconds=0.5)
    async with served(tmp_path) as address, dialled(address) as line:
        answered = asyncio.create_task(line.answer())
        await line.send(b"GET /v2/ HTTP/1.1\r\nX: ")
        async with asyncio.timeout(DEADLINE):
            while not answered.done():
                await line.send(b"x")
                await asyncio.wait([answered], timeout=0.05)
        assert (await answered).status == 408


async def test_a_request_under_way_is_no_slow_head(tmp_path: Path, bounding: Bounding) -> None:
    """What waits behind it has begun to come long before its turn."""
    bounding(head_seconds=0.3)
    Shelf(tmp_path).image("app:1", attacks.LARGE)
    async with served(tmp_path) as address, dialled(address) as line:
        await line.send(attacks.request(target=attacks.BLOB) + head(100)[:50])
        async with dialled(address) as late:
            await late.send(b"GET")
            assert (await late.answer()).status == 408  # so much time has passed
        assert (await line.answer()).body == attacks.LARGE
        await line.send(head(100)[50:])
        assert (await line.answer()).status == 200


async def test_what_all_connections_hold_is_bounded_and_whole_requests_are_served(
    tmp_path: Path, bounding: Bounding
) -> None:
    bounding(held=3 * HEAD // 2, connections=10)
    async with served(tmp_path) as address, dialled(address) as first, dialled(address) as second:
        await first.send(head(HEAD)[:-1])
        await second.send(head(HEAD)[:-1])
        refused, _ = await asyncio.wait(
            [asyncio.create_task(line.answer(), name=name) for name, line in (("first", first), ("second", second))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        (answer,) = [await task for task in refused]
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "TOOMANYREQUESTS", "1")
        async with dialled(address) as whole:
            await whole.send(head(HEAD))
            assert (await whole.answer()).status == 200
        other = second if [task.get_name() for task in refused] == ["first"] else first
        await other.send(b"\n")  # of the other one the end comes, and is taken
        async with asyncio.timeout(DEADLINE):
            while (await ask(address, "/v2/", X="x" * 1000)).status != 200:
                pass


SIZED = b"Content-Length: 4\r\n\r\nbody"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
@pytest.mark.parametrize("body", [SIZED, SIZED[:-2], SIZED[:-4], CHUNKED, CHUNKED[:-7], CHUNKED + b"GET /v2/"])
async def test_a_body_is_not_waited_for_and_ends_its_connection(address: str, method: str, body: bytes) -> None:
    async with dialled(address) as line:
        await line.send(f"{method} /v2/ HTTP/1.1\r\nHost: x\r\n".encode() + body)
        answer = await line.answer(method)
        assert answer.status == (405 if method.startswith("P") else 200)
        assert answer.headers["connection"] == "close"
        assert await line.closed()


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "begun"])
async def test_a_handshake_counts_as_a_connection_and_has_to_end_in_time(
    tmp_path: Path, bounding: Bounding, certificates: Certificates, begun: bytes
) -> None:
    bounding(connections=2, handshake_seconds=2.0)
    Shelf(tmp_path / "tree").image("app:1", b"layer")
    async with guarded(tmp_path / "tree", tls=certificates.settings()) as address:
        host, _, port = address.rpartition(":")
        streams = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        for _, writer in streams:
            writer.write(begun)
        assert not await _serves(host, int(port), certificates)
        assert [await asyncio.wait_for(reader.read(), DEADLINE) for reader, _ in streams] == [b"", b""]
        assert await _serves(host, int(port), certificates)
        for _, writer in streams:
            writer.transport.abort()


async def test_a_client_that_leaves_before_its_handshake_leaves_its_place(
    tmp_path: Path, bounding: Bounding, certificates: Certificates
) -> None:
    bounding(connections=1)
    Shelf(tmp_path / "tree").image("app:1", b"layer")
    async with guarded(tmp_path / "tree", tls=certificates.settings()) as address:
        host, _, port = address.rpartition(":")
        for _ in range(5):
            socket.create_connection((host, int(port))).close()
        async with asyncio.timeout(LIMITS_WITH_TLS.handshake_seconds):
            while not await _serves(host, int(port), certificates):
                pass


async def _serves(host: str, port: int, certificates: Certificates) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=certificates.trusted())
    except OSError:
        return False
    writer.transport.abort()
    return True


@pytest.mark.parametrize(
    ("attack", "number", "tls", "grown"),
    [
        (attacks.accepts, 20, False, 12), (attacks.long_heads, 3, False, 12), (attacks.lists, 8, False, 12),
        (attacks.unfinished, 60, False, 24), (attacks.small_unfinished, 600, False, 20),
        (attacks.pipelined, 60, False, 14), (attacks.slow_readers, 60, False, 16), (attacks.bodies, 20, False, 16),
        (attacks.others, 400, False, 12), (attacks.silent, 600, False, 16), (attacks.silent, 600, True, 16),
        (attacks.hellos, 300, True, 32), (attacks.slow_readers, 40, True, 32),
    ],
)  # fmt: skip
async def test_an_attack_costs_little_memory_for_a_while_and_other_clients_little_time(
    certificates: Certificates, attack: Attack, number: int, tls: bool, grown: int
) -> None:
    found = await cost(attack, number, certificates if tls else None, keeps=10 * MIB)
    assert found.grown < grown * MIB
    assert found.kept < 10 * MIB
    assert found.computed < 2.0  # processor time of the worker, which a busy machine does not change
    assert found.delayed < 20 * found.usual + 0.01  # of the same, for one answer: 5 times as much is measured
    assert found.waited < DEADLINE


def test_a_full_house_fits_into_memory() -> None:
    """Connections cost up to 5 KiB each, with TLS 50, as the attacks show."""
    assert LIMITS.connections * 5 * KIB + LIMITS.held < 64 * MIB
    assert LIMITS_WITH_TLS.connections * 50 * KIB + LIMITS.held < 256 * MIB
