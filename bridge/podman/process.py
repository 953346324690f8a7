"""Running podman and its like to their end: their output, their last words, a limit on standing still."""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence

from bridge import programs
from bridge.errors import BadAnswerError, ImageUnknownError, PodmanError
from bridge.podman import bounds
from bridge.untrusted_text import one_line

_PATIENCE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
_STALL = 300.0
_POLL = 0.5
_CHUNK = 1 << 16


async def run(
    command: Sequence[str],
    *,
    title: str = "",
    environment: Mapping[str, str] | None = None,
    progress: Callable[[], object] | None = None,
    stall: float = _STALL,
) -> bytes:
    """Run `command` and return its standard output; `title` is what an error calls it, its words by default.

    It is killed, with all its children, when the caller is cancelled, when its output has more than
    `bounds.OUTPUT` bytes, and when neither `progress()` nor what it has spooled changes for `stall` seconds;
    without `progress` these are a limit on its time. Raises PodmanError with the program's own last words.
    """
    title = title or " ".join(command)
    process = await start(command, environment)
    reading = asyncio.create_task(read(process, title))
    try:
        await _wait(reading, _progress(process.pid, progress), stall)
        output, words = await reading
    except TimeoutError:
        msg = f"{title} made no progress for {stall:g} s and was killed"
        raise PodmanError(msg) from None
    finally:
        await stop(process)
        await asyncio.gather(reading, return_exceptions=True)
    if process.returncode != 0:
        raise _failure(title, process.returncode, words)
    return output


async def read(process: asyncio.subprocess.Process, title: str) -> tuple[bytes, bytes]:
    """Read the output and the last words of a program to their end, and wait for it.

    If its output has more than `bounds.OUTPUT` bytes, its process group is killed, the rest is dropped, and
    BadAnswerError is raised.
    """
    output, words = await asyncio.gather(_output(process, title), _last_words(process))
    await process.wait()
    return output, words


async def _output(process: asyncio.subprocess.Process, title: str) -> bytes:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    found = bytearray()
    while chunk := await process.stdout.read(_CHUNK):  # to the end in every case: a pipe that is left stays open
        if len(found) > bounds.OUTPUT:
            programs.signal_group(process.pid, signal.SIGKILL)
        else:
            found += chunk
    if len(found) > bounds.OUTPUT:
        msg = f"{title} wrote more than {bounds.OUTPUT} bytes and was ended"
        raise BadAnswerError(msg)
    return bytes(found)


async def _last_words(process: asyncio.subprocess.Process) -> bytes:
    """Read what the program says to its end, and return the last `bounds.WORDS` bytes."""
    assert process.stderr is not None  # noqa: S101 - it was started with a pipe
    said = bytearray()
    while chunk := await process.stderr.read(_CHUNK):
        said += chunk
        del said[: -bounds.WORDS]
    return bytes(said)


async def start(command: Sequence[str], environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start `command` in a process group of its own; raise PodmanError where it cannot be started.

    It must be called on the main thread: the program dies with the thread that started it.
    """
    starting = asyncio.ensure_future(_start(command, environment))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # CPython 3.11 hangs when the call itself is cancelled: let the process start, then stop it
        with contextlib.suppress(PodmanError):
            await stop(await starting)
        raise


async def _start(command: Sequence[str], environment: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    if shutil.which(command[0]) is None:
        msg = f"cannot start {command[0]}: {os.strerror(errno.ENOENT)}"
        raise PodmanError(msg)
    try:
        return await asyncio.create_subprocess_exec(
            *programs.guarded(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=programs.inherited() | dict(environment or {}),
            start_new_session=True,
        )
    except OSError as error:
        msg = f"cannot start {command[0]}: {error.strerror}"
        raise PodmanError(msg) from error


async def stop(process: asyncio.subprocess.Process) -> None:
    """End the process group: SIGTERM, SIGKILL after a while. Returns when it is gone."""
    if process.returncode is None:
        programs.signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _PATIENCE)
    programs.signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _progress(pid: int, progress: Callable[[], object] | None) -> Callable[[], object]:
    if progress is None:
        return lambda: None
    return lambda: (progress(), programs.spooled(pid))


async def _wait(reading: asyncio.Task[tuple[bytes, bytes]], progress: Callable[[], object], stall: float) -> None:
    loop = asyncio.get_running_loop()
    seen, since = progress(), loop.time()
    while not reading.done():
        await asyncio.wait({reading}, timeout=min(_POLL, stall))
        now = progress()
        if now != seen:
            seen, since = now, loop.time()
        elif loop.time() - since > stall and not reading.done():
            raise TimeoutError


def _failure(title: str, code: int | None, words: bytes) -> PodmanError:
    lines = [line for line in words.decode(errors="replace").splitlines() if line.strip()]
    said = one_line(lines[-1].removeprefix("Error: ")) if lines else "it said nothing"
    kind = ImageUnknownError if "image not known" in said else PodmanError
    return kind(f"{title} failed with exit code {code}: {said}")
