"""Clients that take all they can get, and a service with few descriptors before them."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.double.gates import eventually
from tests.faults.world import World
from tests.registry.crews import computed

EVENTS = b"GET /v4.0.0/libpod/events?stream=true HTTP/1.1\r\nHost: d\r\n\r\n"
FEED = b"GET /bridge/v1/events HTTP/1.1\r\nHost: d\r\n\r\n"


def unfinished(path: str, size: int) -> bytes:
    """Return so many bytes of a head without an end, in fields of 8,000 bytes."""
    fields = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 8000) for number in range(size // 8000 + 1))
    return (f"GET {path} HTTP/1.1\r\nHost: d\r\n".encode() + fields)[:size]


@dataclass(frozen=True, slots=True)
class Process:
    """A running service, seen from outside."""

    world: World
    pid: int
    ended: asyncio.Task[int]

    def memory(self) -> int:
        """Return the bytes of memory that it takes now."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def computed(self) -> float:
        """Return the processor time that it has taken until now, all its threads together, in seconds."""
        return computed(self.pid)

    def descriptors(self) -> list[int]:
        """Return the numbers of its open files."""
        return sorted(int(path.name) for path in Path(f"/proc/{self.pid}/fd").iterdir())

    async def is_whole(self) -> bool:
        """Say whether every condition is as it should be."""
        conditions = (await self.world.status())["conditions"]
        return all(one["status"] is not False for one in conditions)


def answers(path: Path) -> bool:
    """Return True if a unix socket accepts: it has its name a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextlib.asynccontextmanager
async def serving(world: World, descriptors: int, *wrapper: str) -> AsyncIterator[Process]:
    """Run a service that may open so many files, with its api socket in `api`, until its first pass is through.

    `wrapper` is a command that becomes the service.
    """
    world.settings["api"] = {"socket": str(world.directory / "api")}
    world.settings["metrics"] = {"listen": "127.0.0.1:0"}
    limited = ["/bin/sh", "-c", 'ulimit -n "$0" && exec "$@"', str(descriptors)]
    service = [*wrapper, sys.executable, "-m", "bridge", "serve", f"--config={world.configuration()}"]
    process = await asyncio.create_subprocess_exec(*limited, *service)
    ended = asyncio.create_task(process.wait())
    try:
        await eventually(lambda: answers(world.control), what="the control socket")
        await world.settled()
        yield Process(world, process.pid, ended)
        assert process.returncode is None, "the service has ended"
    finally:
        if process.returncode is None:
            process.terminate()
        await ended


@contextlib.asynccontextmanager
async def attacked(place: Path | str, content: bytes, count: int) -> AsyncIterator[list[bytes]]:
    """Have so many clients send `content` and then nothing, while the block runs; return what they are answered.

    The block begins when all have connected, or were refused.
    """
    answers: list[bytes] = []
    begun = asyncio.Semaphore(0)

    async def client() -> None:
        try:
            if isinstance(place, Path):
                reader, writer = await asyncio.open_unix_connection(place)
            else:
                host, _, port = place.rpartition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
        finally:
            begun.release()
        with contextlib.closing(writer), contextlib.suppress(OSError):
            writer.write(content)
            if answer := await reader.read(4096):
                answers.append(answer)
            while await reader.read(65536):
                pass

    tasks = [asyncio.create_task(client()) for _ in range(count)]
    try:
        for _ in range(count):
            await begun.acquire()
        yield answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
