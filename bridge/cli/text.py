"""How figures and tables read on a terminal."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bridge.untrusted_text import escaped

if TYPE_CHECKING:
    from bridge.control.schema import PlanView

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Return bytes in podman's decimal units, such as `12.3 MB`."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Return seconds in one unit, such as `5 minutes`."""
    for unit, factor in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= factor:
            count = int(seconds // factor)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{max(0, int(seconds))} s"


def ago(then: float | None) -> str:
    """Return how long ago a time was."""
    return "never" if then is None else f"{duration(time.time() - then)} ago"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 blob` or `2 blobs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def echo(line: str) -> None:
    """Print a line that names what others wrote: what a terminal would take for a command is shown as text."""
    click.echo(escaped(line))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as they need; nothing is cut, so that a pipe gets whole digests."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def json(value: object) -> None:
    """Print a value as indented JSON."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def is_terminal() -> bool:
    """Say whether somebody watches standard error."""
    return sys.stderr.isatty()


def plan(view: "PlanView", *, json_output: bool) -> None:
    """Print what a pass would do."""
    if json_output:
        json(view)
        return
    for one in view.publish:
        echo(f"would publish {one.reference} from {one.name} (image {one.image[:12]})")
    for one in view.withdraw:
        click.echo(f"would withdraw {one.reference}")
    for one in view.held_back:
        click.echo(f"would hold back the withdrawal of {one.reference}; --prune lets it through")
    if not (view.publish or view.withdraw or view.held_back):
        click.echo("nothing to do")
