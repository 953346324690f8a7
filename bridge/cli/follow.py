"""`events`: the changes of references, as they happen."""

import time
from typing import TYPE_CHECKING, Any

import click

from bridge.cli import options, text

if TYPE_CHECKING:
    from bridge.control.schema import EventView


@click.command("events")
@click.option("--since", "last", metavar="ID", help="Begin with what followed this event, by the ID that --json shows.")
@options.settings()
@options.as_json
@click.pass_context
def events_command(context: click.Context, /, last: str | None, json_output: bool, **values: Any) -> None:
    """Follow what is published, withdrawn, or fails.

    Runs until it is interrupted, or the service ends. With --json: one document a line.
    """
    import msgspec

    from bridge.control.schema import EventView

    headers = {} if last is None else {"Last-Event-ID": last}
    try:
        client = options.client(context, values)
        with client.stream("GET", "/events", **headers) as events:
            for event in events:
                if json_output:
                    click.echo(msgspec.json.encode(event))
                else:
                    text.echo(_line(client.read(event, EventView)))
    except KeyboardInterrupt:
        return  # the way to end it


def _line(event: "EventView") -> str:
    words = f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {event.action:<9} {event.reference}"
    if event.action == "failed":
        return f"{words} {event.message} ({text.counted(event.attempts, 'time')})"
    return f"{words} {event.digest}"
