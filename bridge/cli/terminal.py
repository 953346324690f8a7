"""What somebody sees who watches: the log, and a line for an export that takes longer than a second."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from bridge import logs
from bridge.cli import text
from bridge.config import LogConfig

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from bridge.publish import job

_PATIENCE = 1.0
"""Seconds an export takes before it is shown."""
_EVERY = 0.25

Look = Callable[[], "job.Progress | None"]


class _Lines(logging.Handler):
    """Prints a record as one line above whatever progress is shown; the terminal wraps it, so that it can be copied."""

    def __init__(self, console: "Console") -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logs.LineFormatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        style = {"WARNING": "yellow", "ERROR": "bold red"}.get(record.levelname)
        self._console.print(self.format(record), style=style, markup=False, highlight=False, soft_wrap=True)


def start_logging(config: LogConfig) -> "Console | None":
    """Send the log to standard error: in colour to a terminal, one line each to anything else.

    Return the console where people read along, None elsewhere: there rich is not even imported. NO_COLOR
    takes the colours away.
    """
    if not sys.stderr.isatty() or config.format not in ("auto", "plain"):
        logs.start(config.format, config.level, None)
        return None
    from rich.console import Console

    console = Console(stderr=True, force_terminal=True)
    logs.start(config.format, config.level, _Lines(console))
    return console


@contextlib.asynccontextmanager
async def showing_exports(console: "Console | None", look: Look) -> AsyncIterator[None]:
    """Show the export under way while the block runs; nothing where nobody watches."""
    if console is None:
        yield
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        watcher = asyncio.create_task(_watch(bar, look))
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)


async def _watch(bar: "Progress", look: Look) -> None:
    shown: tuple[float, TaskID] | None = None
    while True:
        await asyncio.sleep(_EVERY)
        now = look()
        if shown is not None and (now is None or now.started != shown[0]):
            bar.remove_task(shown[1])
            shown = None
        if now is None or time.monotonic() - now.started < _PATIENCE:
            continue
        if shown is None:
            shown = now.started, bar.add_task(_name(now), total=now.layers, figures="")
        bar.update(shown[1], completed=now.layers_done, figures=_figures(now))


def _name(progress: "job.Progress") -> str:
    return progress.image.names[0] if progress.image.names else progress.image.id[:12]


def _figures(progress: "job.Progress") -> str:
    rate = progress.written / max(time.monotonic() - progress.started, 0.001)
    layers = f"{progress.layers_done}/{progress.layers} layers"
    return f"{layers}, {text.size(progress.written)}, {text.size(rate)}/s"
