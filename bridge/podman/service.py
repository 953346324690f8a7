"""Podman's own service, started and supervised by podbridge where nobody listens on its socket."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from bridge.errors import PodmanError
from bridge.podman import process

log = logging.getLogger(__name__)

_IDLE = 60
"""Seconds after its last connection when the service ends itself: nothing stays if podbridge is killed."""
_START = 20.0
"""Seconds until a service that does not listen is given up."""
_LASTING = 5.0
"""Seconds after which a service that ends has run: its end is a new one, and the next start comes at once."""
_FIRST_DELAY = 0.1
_LAST_DELAY = 30.0


def listens(path: Path) -> bool:
    """Say whether somebody accepts connections on the unix socket `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@contextlib.asynccontextmanager
async def embedded(command: Sequence[str], path: Path) -> AsyncGenerator[None]:
    """Run `podman system service` on `path` while the block runs; start it again whenever it ends.

    The block begins when it listens, or when its first start has failed: that is logged with podman's
    words, and tried again with backoff.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    attempted = asyncio.Event()
    keeper = asyncio.create_task(_keep(command, path, attempted))
    await attempted.wait()
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        path.unlink(missing_ok=True)


async def _keep(command: Sequence[str], path: Path, attempted: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    delay, told = _FIRST_DELAY, ""
    while True:
        begun, failure = loop.time(), ""
        try:
            child = await _start(command, path)
            attempted.set()
            await _until_it_ends(child)
        except PodmanError as error:
            failure = str(error)
            attempted.set()
        if loop.time() - begun > _LASTING:
            delay, told = _FIRST_DELAY, ""
        if failure not in ("", told):
            told = failure
            log.warning("podman service does not run, will try again error=%r", told)
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LAST_DELAY)


async def _start(command: Sequence[str], path: Path) -> asyncio.subprocess.Process:
    path.unlink(missing_ok=True)
    child = await process.start([*command, "system", "service", f"--time={_IDLE}", f"unix://{path}"])
    try:
        async with asyncio.timeout(_START):
            while not listens(path) and child.returncode is None:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
    except TimeoutError:
        await process.stop(child)
    except asyncio.CancelledError:
        await process.stop(child)
        raise
    return child


async def _until_it_ends(child: asyncio.subprocess.Process) -> None:
    """Wait for the service to end; raise PodmanError where that was no orderly end."""
    try:
        _, said = await process.read(child, "podman system service")
    finally:
        await process.stop(child)
    if child.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()[-2:]  # the reason may stand before the error
        msg = f"podman system service ended with exit code {child.returncode}: {'; '.join(lines) or 'no word'}"
        raise PodmanError(msg)
