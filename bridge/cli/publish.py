"""`publish`: what the service is asked, and how its progress is shown to who waits."""

from typing import TYPE_CHECKING, Any

import click

from bridge.cli import completion, options, text
from bridge.errors import ControlError

if TYPE_CHECKING:
    from bridge.cli.client import Client
    from bridge.control.schema import PublicationList, PublishRequest


@click.command("publish")
@click.argument("image", shell_complete=completion.images)
@click.option("--as", "reference", metavar="NAME:TAG", help="Publish it under this reference, whatever the rules say.")
@click.option("--force", is_flag=True, help="Take the reference even from an image that the rules give it to.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is published.")
@click.option("--dry-run", is_flag=True, help="Say what would be published, and do nothing.")
@options.settings()
@options.as_json
@click.pass_context
def publish_command(context: click.Context, /, json_output: bool, **values: Any) -> None:
    """Publish IMAGE now.

    IMAGE is a podman name or image ID. Lets through what was held.
    """
    from bridge.control.schema import PublicationList, PublishRequest

    client = options.client(context, values)
    asked = PublishRequest(values["image"], values["reference"], values["force"], values["dry_run"])
    if values["no_wait"] or values["dry_run"] or not text.is_terminal():
        answer = client.post("/publications", PublicationList, asked, wait=str(not values["no_wait"]).lower())
    else:
        answer = _watch(client, asked)
    if json_output:
        text.json(answer.publications)
        return
    for view in answer.publications:
        state = "" if view.state == "Published" else f"{view.state.lower()} "
        text.echo(f"{view.reference} {state}{view.digest} {view.fidelity}".rstrip())


def _watch(client: "Client", asked: "PublishRequest") -> "PublicationList":
    """Show each step in place of the one before, and return what the stream ends with."""
    from rich.console import Console
    from rich.markup import escape

    from bridge.control.schema import PublicationList
    from bridge.untrusted_text import one_line

    with (
        Console(stderr=True).status(f"Publishing {escape(asked.image)}") as shown,
        client.stream("POST", "/publications", asked) as records,
    ):
        for record in records:
            if "stream" in record:
                shown.update(escape(one_line(record["stream"])))
            elif "error" in record:
                raise ControlError(record["error"])
            elif "publications" in record:
                return client.read(record, PublicationList)
    msg = "the service stopped before it was done; `podbridge list` says what has become of it"
    raise ControlError(msg)
