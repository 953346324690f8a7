"""A client that leaves at the wrong moment, over TCP or TLS: no traceback, and no loss to others."""

import asyncio
import gc
import logging
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from bridge.config import RegistryConfig
from bridge.oci import Digest
from bridge.registry import server
from bridge.registry.accepting import accepting
from bridge.registry.connection import LIMITS, Connection, Listener
from tests.double.gates import eventually
from tests.registry.entrance import Certificates, guarded
from tests.registry.trees import Shelf
from tests.registry.wires import ask

LARGE = os.urandom(8_000_000)
BLOB = f"/v2/app/blobs/{Digest.of(LARGE)}"
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with a large blob."""
    shelf = Shelf(tmp_path / "tree")
    shelf.image("app:1", LARGE, b"small")
    return shelf.root


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test whose clients are told of in the log, by podbridge or by what it is made of."""
    yield
    gc.collect()  # what was never looked at is told then
    records = [*caplog.get_records("setup"), *caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in records if record.levelno >= logging.WARNING] == []


def request(target: str = "/v2/", *fields: str, method: str = "GET") -> bytes:
    """Return a head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def connect(address: str) -> socket.socket:
    """Connect a client whose close is a reset."""
    host, _, port = address.rpartition(":")
    client = socket.create_connection((host, int(port)), timeout=30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return client


@pytest.fixture
async def address(root: Path) -> AsyncIterator[str]:
    """Where a registry over the tree listens; it serves, and its connections have gone, after each test."""
    async with guarded(root) as address:
        yield address
        assert (await ask(address, "/v2/")).status == 200


SENT = {
    "nothing": b"",
    "half a head": request()[:20],
    "a request": request(),
    "a last request": request("/v2/", "Connection: close"),
    "a blob's": request(BLOB),
    "ranges'": request(BLOB, "Range: bytes=0-9,100-200000,300000-900000"),
    "a body's beginning": request("/v2/", "Content-Length: 9", method="POST") + b"abc",
    "no HTTP": b"no HTTP\r\n\r\n",
    "too long a head": request("/v2/", "X: " + "x" * 40_000),
    "forty requests": request() * 40,
    "three blobs'": request(BLOB) * 3,
}


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_a_client_that_has_left_when_its_request_is_read(address: str, sent: bytes) -> None:
    """The registry's loop has no turn between what is sent and the reset: it finds both."""
    for _ in range(5):
        with connect(address) as client:
            client.sendall(sent)
        with connect(address) as client:
            client.sendall(request())
            client.setblocking(False)
            assert (await asyncio.get_running_loop().sock_recv(client, 4096)).startswith(b"HTTP/1.1 200")
            client.send(sent)
        await ask(address, "/v2/")


@pytest.mark.parametrize("taken", [1, 300_000, len(LARGE)])
@pytest.mark.parametrize("sent", [request(BLOB), request(BLOB, "Connection: close"), request(BLOB) * 2])
async def test_a_client_that_leaves_in_the_middle_of_a_blob(address: str, sent: bytes, taken: int) -> None:
    for _ in range(3):
        await asyncio.to_thread(leave, connect(address), sent, taken)
        await ask(address, "/v2/")


def leave(client: socket.socket, sent: bytes, taken: int, end: Callable[[socket.socket], None] | None = None) -> None:
    """Send, read so many bytes or up to the end, do something, and leave."""
    with client:
        client.sendall(sent)
        while taken > 0 and (content := client.recv(min(taken, 65536))):
            taken -= len(content)
        if end is not None:
            end(client)


async def test_a_client_that_leaves_between_its_last_answer_and_the_end_of_the_connection(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The access log is written between these two."""

    class Leaves(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            client.close()

    caplog.set_level(logging.INFO, "bridge.registry.access_log")
    log = logging.getLogger("bridge.registry.access_log")
    handler = Leaves()
    listener = server.listen("127.0.0.1", 0)
    async with server.serving(root, listener, RegistryConfig(access_log=True)) as address:
        log.addHandler(handler)
        try:
            for sent in (request("/v2/", "Connection: close"), b"GET /v2/ HTTP/1.0\r\n\r\n"):
                client = connect(address)
                client.sendall(sent)
                await eventually(lambda one=client: one.fileno() < 0, what="the client has left")  # type: ignore[misc]
        finally:
            log.removeHandler(handler)
        assert (await ask(address, "/v2/")).status == 200


async def test_a_client_that_leaves_as_soon_as_the_last_byte_of_a_long_answer_was_sent() -> None:
    """The end of our side then comes when the loop has sent what was left, where nobody takes an exception."""
    clients: list[socket.socket] = []

    class Left(Connection):
        is_answered = False

        def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
            assert self.transport is not None
            self.transport.write(LARGE)  # so something is left to be sent, however quick the client was
            self.is_answered = True
            super().log_access(request, response, time)

        def resume_writing(self) -> None:
            assert self.transport is not None
            if self.is_answered and not self.transport.get_write_buffer_size():
                clients[0].close()
            super().resume_writing()

    class Listening(Listener):
        def __call__(self) -> web.RequestHandler:
            return Left(self)

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=LARGE)

    listener = server.listen("127.0.0.1", 0)
    address = server.address_of(listener)
    async with accepting(listener, Listening(handle, LIMITS), None):
        clients.append(connect(address))
        clients[0].sendall(request("/v2/", "Content-Length: 4", method="POST"))  # the body is waited for behind it
        await asyncio.to_thread(read_out, clients[0])
        await eventually(lambda: clients[0].fileno() < 0, what="the client has left")
        await asyncio.sleep(0.1)  # not a wait: what the loop says of it would come now


def read_out(client: socket.socket) -> None:
    """Read twice the large body, or up to a reset."""
    taken = 0
    while taken < 2 * len(LARGE):
        try:
            content = client.recv(65536)
        except OSError:
            return
        if not content:
            return
        taken += len(content)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path / "tls")


def encrypted(address: str, certificates: Certificates) -> ssl.SSLSocket:
    """Connect over TLS a client whose close is a reset."""
    return certificates.trusted().wrap_socket(connect(address), server_hostname="127.0.0.1")


def end_below_tls(client: socket.socket) -> None:
    """Close the client's side without a word of TLS, and wait until the other one is closed."""
    socket.socket.shutdown(client, socket.SHUT_WR)
    raw = socket.socket(fileno=os.dup(client.fileno()))
    with raw:
        raw.settimeout(30)
        try:
            while raw.recv(65536):
                pass
        except ConnectionResetError:
            return


@pytest.mark.parametrize("end", [None, end_below_tls], ids=["reset", "end"])
@pytest.mark.parametrize("taken", [0, 1, 300_000])
@pytest.mark.parametrize("sent", [request(), request("/v2/", "Connection: close"), request(BLOB), request(BLOB) * 2])
async def test_a_client_that_leaves_over_tls(
    root: Path,
    certificates: Certificates,
    sent: bytes,
    taken: int,
    end: Callable[[socket.socket], None] | None,
) -> None:
    async with guarded(root, tls=certificates.settings()) as address:
        for _ in range(3):
            client = await asyncio.to_thread(encrypted, address, certificates)
            await asyncio.to_thread(leave, client, sent, min(taken, 150 if BLOB.encode() not in sent else taken), end)
        client = await asyncio.to_thread(encrypted, address, certificates)
        await asyncio.to_thread(leave, client, request(), 12)


async def test_a_client_that_leaves_within_its_handshake(root: Path, certificates: Certificates) -> None:
    outgoing = ssl.MemoryBIO()
    hello = certificates.trusted().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    begin = outgoing.read()
    async with guarded(root, tls=certificates.settings()) as address:
        for sent in (
            b"",
            begin[:1],
            begin[:50],
            begin,
            begin + b"\x15\x03\x03\x00\x02\x02\x28",
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            with connect(address) as client:
                client.sendall(sent)
            await asyncio.to_thread(leave, connect(address), sent, 1 if sent == begin else 0)
        client = await asyncio.to_thread(encrypted, address, certificates)
        await asyncio.to_thread(leave, client, request(), 12)
