"""Running one hook: its document on standard input, a limit on its time, and nothing of it left behind."""

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bridge import programs
from bridge.hooks.document import Document
from bridge.hooks.finding import Hook, is_there

_KEPT = 64 * 1024
"""Bytes of a hook's output that are kept, of each stream; the rest is read and dropped."""
_LINE = 300
"""Characters of a line that are shown."""
_LONGEST = 100_000
"""Bytes of a variable; Linux takes 128 KiB, its name included."""
_MOMENT = 1.0
"""Seconds between SIGTERM and SIGKILL."""
_LAST_WORDS = 0.2
"""Seconds until the output of a hook that has ended is complete; one who left its group may hold it open for ever."""
_INHERITED = ("HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a hook ended: `code` is None where it was killed at its limit, negative where a signal ended it."""

    code: int | None
    errors: str

    @property
    def first_line(self) -> str:
        """The first line on its standard error, fit to be shown; empty where it said nothing."""
        return next(iter(self._lines()), "")

    @property
    def last_line(self) -> str:
        """The last line on its standard error."""
        return next(reversed(self._lines()), "")

    def _lines(self) -> list[str]:
        lines = ("".join(filter(str.isprintable, line)).strip() for line in self.errors.splitlines())
        return [line[:_LINE] for line in lines if line]


class _Program(asyncio.SubprocessProtocol):
    """Hears what a program says, and that it has ended, also where somebody else still holds its output open."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.silent = asyncio.get_running_loop().create_future()
        self.kept = {1: bytearray(), 2: bytearray()}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.kept[fd] += data[: _KEPT - len(self.kept[fd])]

    def process_exited(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        if not self.silent.done():
            self.silent.set_result(None)


async def run(hook: Hook, document: Document, limit: float) -> Outcome | None:
    """Run a hook for at most `limit` seconds, then end its whole group. None: it has been removed since it was found.

    Raises OSError where nothing can be started. When the caller is cancelled, the hook is ended too.
    """
    if not is_there(hook.path):
        return None
    transport, program = await _start(hook, document)
    try:
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)  # noqa: S101 - for mypy
        stdin.write(msgspec.json.encode(document))
        stdin.close()
        await asyncio.wait({program.ended}, timeout=limit)
        code = transport.get_returncode()
    finally:
        await _end(transport, program)
    gone = code in (126, 127) and not is_there(hook.path)  # it could not be executed
    return None if gone else Outcome(code, program.kept[2].decode(errors="replace"))


def environment(hook: Hook, document: Document) -> dict[str, bytes]:
    """Return a clean environment: a few variables of podbridge's own, the hook's settings, the document's.

    The python3 that runs podbridge comes first in PATH, so that hooks can use what podbridge uses.
    """
    own = Path(sys.executable).parent
    clean = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    path = f"{own}:{os.environ.get('PATH') or _PATH}"
    words = {**clean, "PATH": path, **hook.settings, **document.variables()}
    # an image says of itself what it likes: no NUL, and nothing that is too long for the kernel
    return {key: value.replace("\0", "").encode(errors="surrogateescape")[:_LONGEST] for key, value in words.items()}


async def _start(hook: Hook, document: Document) -> tuple[asyncio.SubprocessTransport, _Program]:
    starting = asyncio.ensure_future(_execute(hook, document))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # CPython 3.11 hangs when the call itself is cancelled: let the process start, then end it
        with contextlib.suppress(OSError):
            await _end(*(await starting))
        raise


async def _execute(hook: Hook, document: Document) -> tuple[asyncio.SubprocessTransport, _Program]:
    words, lifeline = programs.bound([str(hook.path), document.stage, document.reference])
    return await asyncio.get_running_loop().subprocess_exec(
        _Program, *words, cwd="/", env=environment(hook, document), start_new_session=True, pass_fds=(lifeline,)
    )


async def _end(transport: asyncio.SubprocessTransport, program: _Program) -> None:
    """End whatever is left of the group, and hear its last words."""
    try:
        if not program.ended.done():
            programs.signal_group(transport.get_pid(), signal.SIGTERM)
            await asyncio.wait({program.ended}, timeout=_MOMENT)
    finally:
        programs.signal_group(transport.get_pid(), signal.SIGKILL)
        try:
            await asyncio.wait({program.ended})
            await asyncio.wait({program.silent}, timeout=_LAST_WORDS)
        finally:
            transport.close()
