"""`podbridge status`: how the service is, in the manner of `systemctl status`."""

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from bridge.cli import options, text
from bridge.untrusted_text import escaped

if TYPE_CHECKING:
    from bridge.control.schema import ConditionView, PublicationView, ScrubView, Status

_LAST = 5
"""Publications that are shown, the newest first."""


@click.command("status")
@options.settings()
@options.as_json
@click.pass_context
def status_command(context: click.Context, /, json_output: bool, **values: Any) -> None:
    """Say how the service is.

    Exits 1 where it is not in order.
    """
    from bridge.control.schema import PublicationView, Status

    client = options.client(context, values)
    status = client.get("/status", Status)
    if json_output:
        text.json(status)
    else:
        publications = client.get("/publications", dict[str, list[PublicationView]])["publications"]
        for line in _lines(status, publications):
            click.echo(line, color=_coloured())
    sys.exit(1 if any(condition.status is False for condition in status.conditions) else 0)


def _coloured() -> bool:
    """Say whether colours are wanted: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _lines(status: "Status", publications: "list[PublicationView]") -> Iterator[str]:
    colour, words = _verdict(status)
    up = text.duration(time.time() - status.started)
    yield f"{_style('●', colour)} podbridge {status.version}: {_style(words, colour)}, pid {status.pid}, up {up}"
    yield from _facts(status)
    for condition in status.conditions:
        yield _condition(condition)
    for damage in status.damage:
        yield from ("", f"  {_style('✗', 'red')} {damage.message}")
    for failure in status.failures:
        yield from _failure(failure)
    yield from _last(publications)


def _verdict(status: "Status") -> tuple[str, str]:
    """Return a colour and the words for the whole."""
    known = {condition.type: condition.status for condition in status.conditions}
    if False in known.values():
        return "red", "not in order"
    if not known.get("Ready"):
        return "yellow", "starting"
    return ("yellow", "some images failed") if status.failures else ("green", "in order")


def _style(words: str, colour: str) -> str:
    return click.style(words, fg=colour, bold=True)


def _facts(status: "Status") -> Iterator[str]:
    counts = status.counts
    yield f"  watches   podman {escaped(status.podman) or 'of unknown version'} on {status.podman_socket}"
    yield f"  last look {text.ago(status.last_look)}: {text.counted(counts['images'], 'image')} in the store"
    yield f"  tree      {status.tree}"
    yield f"  registry  {status.scheme}://{status.registry}"
    waiting = "".join(f", {counts[word]} {word}" for word in ("pending", "failed", "denied", "held") if word in counts)
    yield f"  published {counts['published']}{waiting}"
    if counts["heldBack"]:
        withdrawals = text.counted(counts["heldBack"], "withdrawal")
        yield f"            {withdrawals} held back: `podbridge resync --prune` lets them through"
    if status.scrub is not None:
        yield f"  scrub     {_scrub(status.scrub)}"
    if status.export is not None:
        export = status.export
        name = export.names[0] if export.names else export.image[:12]
        yield f"  exporting {escaped(name)}: {export.layers_done}/{export.layers} layers, {text.size(export.written)}"
    yield ""


def _scrub(scrub: "ScrubView") -> str:
    found = f", {text.counted(scrub.damaged, 'blob')} damaged" if scrub.damaged else ""
    if scrub.begun is not None:
        return f"under way, {text.size(scrub.read)} of {text.size(scrub.total)} read again{found}"
    due = text.duration(max(0, scrub.ended + scrub.every - time.time()))
    last = f"last {text.ago(scrub.ended)}: {text.size(scrub.read)} read again{found}" if scrub.blobs else "none yet"
    return f"{last}, next in {due}"


def _condition(condition: "ConditionView") -> str:
    mark = {True: "yes", False: _style("NO ", "red"), None: _style("?  ", "yellow")}[condition.status]
    reason = f" {condition.reason}" if condition.status is False else ""
    words = f": {escaped(condition.message)}" if condition.message else ""
    held = text.duration(time.time() - condition.last_transition_time)
    return f"  {condition.type:<16} {mark} for {held}{reason}{words}"


def _failure(failure: "PublicationView") -> Iterator[str]:
    yield ""
    yield f"  {_style('✗', 'red')} {failure.reference} {_when_again(failure)}"
    yield f"    {escaped(failure.message)}"


def _when_again(failure: "PublicationView") -> str:
    if failure.state == "Denied":
        return "is denied; asked again when its image or a hook changes, or at `podbridge resync`"
    failed = f"failed {text.counted(failure.attempts, 'time')}"
    if failure.permanent:
        return f"{failed} for good"
    if failure.retry_at is None:
        return f"{failed}; publish it again by hand"
    return f"{failed}, next try in {text.duration(max(0, failure.retry_at - time.time()))}"


def _last(publications: "list[PublicationView]") -> Iterator[str]:
    """Show the newest publications."""
    dated = [(view.published, view) for view in publications if view.state == "Published" and view.published]
    newest = [view for _, view in sorted(dated, key=lambda pair: pair[0], reverse=True)[:_LAST]]
    if newest:
        yield ""
        width = max(len(view.reference) for view in newest)
    for view in newest:
        digest = view.digest[:19] + "…"
        yield f"  {text.ago(view.published):>14}  {view.reference:<{width}}  {digest}  {text.size(view.size)}"
