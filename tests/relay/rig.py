"""A relay in the test's own process, raw upstreams behind it, and raw clients before it."""

import asyncio
import contextlib
import select
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.changes import Changes
from bridge.config import ApiConfig, Profile
from bridge.errors import ImageUnknownError
from bridge.limits import Limits
from bridge.listening import DRAIN, unix_socket
from bridge.oci import Reference
from bridge.progress import Event
from bridge.relay.desk import Desk, Login
from bridge.relay.pushes import Publisher
from bridge.relay.server import Relay, serving
from bridge.tree.reader import TreeReader
from tests.double.gates import DEADLINE, eventually

REGISTRY = "127.0.0.1:5000"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class NoImages:
    """A publisher with an empty store."""

    async def publishing(
        self, image: str, reference: Reference | None, *, force: bool = False
    ) -> AsyncGenerator[Event]:
        """Find nothing."""
        steps: tuple[Event, ...] = ()
        for step in steps:
            yield step
        msg = f"{image!r} is not in podman's store"
        raise ImageUnknownError(msg)


@dataclass
class Rig:
    """What a test may set of a relay."""

    directory: Path
    profile: Profile = Profile.FULL
    floor: str | None = None
    login: Login | None = None
    publisher: Publisher = field(default_factory=NoImages)
    patience: float = DRAIN
    changes: Changes = field(default_factory=Changes)
    limits: Limits = field(default_factory=lambda: Limits(connections=64))

    @property
    def api(self) -> Path:
        """Where clients connect."""
        return self.directory / "a"

    @property
    def podman(self) -> Path:
        """Where the upstream listens."""
        return self.directory / "u"

    @contextlib.asynccontextmanager
    async def relaying(self, podman: Path | None = None) -> AsyncIterator[None]:
        """Relay to `podman`."""
        desk = Desk(
            publisher=self.publisher,
            tree=TreeReader(self.directory / "tree"),
            changes=self.changes,
            registry=REGISTRY,
            own=frozenset({REGISTRY}),
            login=self.login,
        )
        settings = ApiConfig(socket=self.api, profile=self.profile, floor=self.floor)
        with unix_socket(self.api, "api") as listener:
            async with serving(Relay(podman or self.podman, settings, desk, self.limits), listener, self.patience):
                yield

    @contextlib.asynccontextmanager
    async def upstream(self, handler: Handler) -> AsyncIterator[None]:
        """Relay to an upstream that does `handler` with each connection."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_unix_server(handle, self.podman)
        async with self.relaying():
            try:
                yield
            finally:
                server.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect a client."""
        return await asyncio.open_unix_connection(self.api)

    async def say(self, request: bytes, *, end: bool = True) -> bytes:
        """Send bytes, by default end that side, and return everything that comes until the other side ends."""
        reader, writer = await self.connect()
        with contextlib.suppress(ConnectionError):
            writer.write(request)
            await writer.drain()
            if end:
                writer.write_eof()
        try:
            async with asyncio.timeout(DEADLINE):
                return await reader.read()
        finally:
            writer.close()


async def request_head(reader: asyncio.StreamReader) -> bytes:
    """Read a head."""
    return await reader.readuntil(b"\r\n\r\n")


async def until(question: Callable[[], bool]) -> None:
    """Wait for the answer yes."""
    await eventually(question)


def hung_up(writer: asyncio.StreamWriter) -> bool:
    """Say whether the other end of a connection is closed both ways."""
    poller = select.poll()
    poller.register(writer.get_extra_info("socket").fileno(), 0)
    return bool(poller.poll(0))


def descriptors() -> int:
    """Count the open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def in_a_thread(running: Callable[[], contextlib.AbstractAsyncContextManager[None]]) -> Iterator[None]:
    """Run something asynchronous in a thread of its own while the block runs."""
    begun, loop, over = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with running():
            begun.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert begun.wait(DEADLINE)
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(DEADLINE)
        loop.close()
