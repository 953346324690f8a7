"""What hostile clients do to a registry, and what it costs the worker that they meet and the client beside them.

    python -m tests.registry.attacks        measure each in full, one worker for each

The costs are those of a worker, from /proc: how many bytes it holds before, at most, and some seconds after; how long
another client, which asks for a manifest again and again, waited for one answer; processor time.
"""

import asyncio
import contextlib
import resource
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bridge.oci import Digest
from tests.registry.crews import computed, manned, resident, settings
from tests.registry.entrance import Certificates
from tests.registry.trees import Shelf

MIB = 1024 * 1024
LARGE = bytes(64 * MIB)
MANIFEST = "/v2/app/manifests/1"
BLOB = f"/v2/app/blobs/{Digest.of(LARGE)}"
_PATIENCE = 30.0

Attack = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attack cost: bytes of the worker before, at most and after; seconds that another client waited.

    `computed` is the worker's processor time in seconds, that for the other client included; `usual` what it took until
    an answer at rest, on an average, and `delayed` the same under attack.
    """

    before: int
    most: int
    after: int
    waited: float
    computed: float
    usual: float
    delayed: float

    @property
    def grown(self) -> int:
        """Bytes that the worker held more than before, at most."""
        return self.most - self.before

    @property
    def kept(self) -> int:
        """Bytes that it still holds more."""
        return self.after - self.before


def _connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=_PATIENCE)


def _push(connection: socket.socket, content: bytes, seconds: float = 2.0) -> None:
    """Send as much as is taken within so many seconds."""
    connection.settimeout(seconds)
    with contextlib.suppress(OSError):
        connection.sendall(content)
    connection.settimeout(_PATIENCE)


def _read(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(65536)


def request(*fields: str, target: str = MANIFEST, method: str = "GET") -> bytes:
    """Return a head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


@contextlib.contextmanager
def _crowd(address: str, number: int, content: bytes = b"") -> Iterator[list[socket.socket]]:
    """Have so many connections, each of which sent the content as far as it was taken."""
    with contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(number):
            with contextlib.suppress(OSError):
                crowd.append(stack.enter_context(_connect(address)))
                _push(crowd[-1], content, 0.2)
        yield crowd


def accepts(address: str, number: int) -> None:
    """Send heads of 2.8 MB, each with another Accept."""
    for one in range(number):
        with _connect(address) as connection:
            media = ",".join(f"application/{one}.{part}" for part in range(1300))
            _push(connection, request(*(f"Accept: {media}" for _ in range(96))))
            _read(connection)


def long_heads(address: str, number: int) -> None:
    """Send heads of 2.8 MB whose lists have as many elements as they can."""
    for _ in range(number):
        with _connect(address) as connection:
            _push(connection, request(*("Accept: " + "a," * 14_000 for _ in range(96))))
            _read(connection)


def lists(address: str, number: int) -> None:
    """Send heads that are just short enough, full of short elements."""
    fields = {"Accept": "a,", "Range": "0-0,", "If-None-Match": "a,", "Accept-Encoding": "a,"}
    with _connect(address) as connection:
        for one in range(number):
            name, element = list(fields.items())[one % len(fields)]
            unit = "bytes=" if name == "Range" else ""
            field = f"{name}: {unit}{element * (30_000 // len(element))}"
            target = BLOB if name != "Accept" else MANIFEST
            connection.sendall(request(field, target=target, method="HEAD" if name != "Range" else "GET"))
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while not connection.recv(1 << 20).endswith(b"--\r\n"):
                    pass
            connection.settimeout(_PATIENCE)


def unfinished(address: str, number: int) -> None:
    """Begin heads of 1 MB, and never end them."""
    with _crowd(address, number, request(*("X: " + "x" * 10_000 for _ in range(96)))[:-2]):
        time.sleep(1)


def small_unfinished(address: str, number: int) -> None:
    """Begin heads within the bounds, and never end them."""
    with _crowd(address, number, request(*("X: " + "x" * 250 for _ in range(90)))[:-2]):
        time.sleep(1)


def pipelined(address: str, number: int) -> None:
    """Ask for a large blob, read nothing of it, and send a megabyte of requests behind."""
    behind = request("X: " + "x" * 8000) * 128
    with _crowd(address, number, request(target=BLOB) + behind):
        time.sleep(1)


def slow_readers(address: str, number: int) -> None:
    """Ask for a large blob, and read one byte a second."""
    with _crowd(address, number, request(target=BLOB)) as crowd:
        for _ in range(3):
            time.sleep(1)
            for connection in crowd:
                connection.recv(1)


def bodies(address: str, number: int) -> None:
    """Send requests whose bodies have no end."""
    chunked = request("Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n" * 100_000
    sized = request("Content-Length: 999999999999") + bytes(1000_000)
    with _crowd(address, number // 2, chunked), _crowd(address, number // 2, sized):
        time.sleep(1)


def others(address: str, number: int) -> None:
    """Ask for something else each time, by the longest targets and fields."""
    with _connect(address) as connection:
        for one in range(number):
            long = f"{one}" + "x" * 4000
            fields = (
                f"{name}: {long}" for name in ("User-Agent", "If-None-Match", "Range", "Accept-Encoding", "Cookie")
            )
            target = f"{MANIFEST}?{one}={long}" if one % 2 else f"http://{one}.example{MANIFEST}?{long}"
            connection.sendall(request(*fields, f"Accept: */*, {long}", target=target, method="HEAD"))
            while not connection.recv(65536).endswith(b"\r\n\r\n"):
                pass


def silent(address: str, number: int) -> None:
    """Open connections, and say nothing."""
    with _crowd(address, number):
        time.sleep(1)


def hellos(address: str, number: int) -> None:
    """Begin handshakes of TLS, and never go on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    with _crowd(address, number, outgoing.read()):
        time.sleep(1)


ATTACKS: tuple[tuple[Attack, int, bool], ...] = (
    (accepts, 200, False), (long_heads, 1, False), (lists, 40, False), (unfinished, 300, False),
    (small_unfinished, 2000, False), (pipelined, 200, False), (slow_readers, 500, False), (bodies, 100, False),
    (others, 5000, False), (silent, 9000, False), (silent, 9000, True), (hellos, 9000, True), (slow_readers, 100, True),
)  # fmt: skip
"""Each attack, how many of it, and whether the registry speaks TLS."""


class _Beside:
    """Another client, which asks again and again while the block runs."""

    def __init__(self, address: str, context: ssl.SSLContext | None, pid: int) -> None:
        self.pid = pid
        self.computed: list[float] = []
        """What the worker's processor time grew by until each answer: others on the machine do not change it."""
        self.waited = 0.0
        self.failed = 0
        self.asked = 0
        self._address, self._context = address, context
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(_connect(self._address))
            if self._context is not None:
                connection = stack.enter_context(self._context.wrap_socket(connection, server_hostname="127.0.0.1"))
            while not self._done.wait(0.02):
                began, spent = time.monotonic(), computed(self.pid)
                connection.sendall(request(method="HEAD"))
                answer = connection.recv(65536)
                self.asked += 1
                self.failed += not answer.startswith(b"HTTP/1.1 200")
                self.waited = max(self.waited, time.monotonic() - began)
                self.computed.append(computed(self.pid) - spent)


async def cost(attack: Attack, number: int, tls: Certificates | None = None, *, keeps: int = MIB) -> Cost:
    """Attack a worker of its own, and return what that cost it, as soon as it keeps no more than so many bytes."""
    with tempfile.TemporaryDirectory(prefix="attack-") as directory:
        shelf = Shelf(Path(directory))
        shelf.image("app:1", LARGE, b"small")
        encrypted = None if tls is None else tls.settings()
        async with manned(settings(shelf.root, workers=1, tls=encrypted)) as crew:
            context = None if tls is None else tls.trusted()
            pid = crew.processes[0]
            with _Beside(crew.address, context, pid) as beside:
                await asyncio.to_thread(_until, lambda: beside.asked > 10)
                before, spent, calm = resident(pid), computed(pid), len(beside.computed)
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # the peak is that from now on
                await asyncio.to_thread(attack, crew.address, number)
                spent = computed(pid) - spent
                delays = beside.computed[calm:]
                most = _peak(pid)
                await asyncio.to_thread(_until, lambda: resident(pid) <= before + keeps)
                after = resident(pid)
    assert not beside.failed
    usual = sum(beside.computed[:calm]) / calm
    return Cost(before, most, after, beside.waited, spent, usual, sum(delays) / max(1, len(delays)))


def _until(holds: Callable[[], bool], seconds: float = 12.0) -> None:
    """Return when the condition holds, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def _report() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        certificates = Certificates.make(Path(directory) / "tls")
        for attack, number, encrypted in ATTACKS:
            found = await cost(attack, number, certificates if encrypted else None)
            megabytes = "  ".join(f"{size / MIB:6.0f}" for size in (found.before, found.most, found.after))
            name = f"{number} {attack.__name__}{' with TLS' if encrypted else ''}"
            print(f"{name:28}  {megabytes} MiB  {found.waited:6.2f} s", flush=True)


if __name__ == "__main__":
    asyncio.run(_report())
