"""A registry with worker processes over a tree, clients that load it, and what /proc tells of the processes."""

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.config import Config, EncodingsConfig, RegistryConfig
from bridge.registry import server, workers
from bridge.registry.workers import Workers
from bridge.tree.publisher import Tree
from bridge.units import Pattern
from tests.registry.wires import Line, dialled


def settings(root: Path, *, loopback: bool = False, excepted: tuple[Pattern, ...] = (), **registry: Any) -> Config:
    """Return a configuration for the tree: two workers, and what `registry` says."""
    own = RegistryConfig(**{"workers": 2, **registry})
    return Config(tree=root, registry=own, encodings=EncodingsConfig(loopback=loopback, except_=excepted))


@contextlib.asynccontextmanager
async def manned(config: Config, host: str = "127.0.0.1") -> AsyncIterator[Workers]:
    """Serve the tree of the configuration by workers while the block runs."""
    with Tree(config.tree):
        pass  # makes it where there is none
    async with workers.running(server.listen(host, 0), config) as crew:
        yield crew


@dataclass(slots=True)
class Load:
    """Clients that ask for one path again and again; each leaves a connection whose answer says that it ends."""

    address: str
    path: str
    group: asyncio.TaskGroup
    clients: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    done: bool = False

    def more(self) -> None:
        """Add a client."""
        self.clients += 1
        self.group.create_task(self._run())

    async def _run(self) -> None:
        while not self.done:
            try:
                async with dialled(self.address) as line:
                    await self._ask(line)
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))

    async def _ask(self, line: Line) -> None:
        while not self.done:
            answer = await line.ask(self.path)
            self.answered += 1
            if answer.status != 200:
                self.failures.append(str(answer))
            digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
            if digest != answer.headers["docker-content-digest"]:
                self.failures.append(f"{digest} is called {answer.headers['docker-content-digest']}")
            self.digests.append(digest)
            if answer.headers.get("connection") == "close":
                return


@contextlib.asynccontextmanager
async def loaded(address: str, path: str, clients: int = 8) -> AsyncIterator[Load]:
    """Load the path while the block runs."""
    async with asyncio.TaskGroup() as group:
        load = Load(address, path, group)
        for _ in range(clients):
            load.more()
        try:
            yield load
        finally:
            load.done = True


def kill(pid: int) -> None:
    """Kill a process as a crash does."""
    os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Say whether a process runs: one that nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def resident(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def sockets(pid: int) -> int:
    """Return how many sockets a process has open."""
    return sum(map(_is_socket, Path(f"/proc/{pid}/fd").iterdir()))


def _is_socket(entry: Path) -> bool:
    try:
        return str(entry.readlink()).startswith("socket:")
    except FileNotFoundError:
        return False  # closed meanwhile


def computed(pid: int) -> float:
    """Return the processor time that a process has taken until now, all its threads together, in seconds.

    Its clock, as clock_getcpuclockid(3) makes it of the pid: what else the machine does changes nothing.
    """
    return time.clock_gettime((~pid << 3) | 2)
