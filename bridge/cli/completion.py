"""What the shell is offered for an argument: files, directories, and what the running service knows."""

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from bridge.cli import options
from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.control.schema import PublicationView


def images(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the podman names that are published or wait for it; `localhost/` need not be typed."""
    names = {view.name for view in _publications(context) if view.name}
    short = {name.removeprefix("localhost/") for name in names}
    return _beginning(names, incomplete) or _beginning(short, incomplete)


def references(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the references."""
    return _beginning({view.reference for view in _publications(context)}, incomplete)


def _beginning(words: set[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)]


def _publications(context: click.Context) -> "list[PublicationView]":
    """Ask the service; where none answers, there is nothing to offer."""
    from bridge.control.schema import PublicationView

    try:
        # No callback has run: what stands before the verb is only in the parameters.
        file = context.params.get("config_file") or context.find_root().params.get("config_file")
        client = options.client(context, {"config_file": file})
        return client.get("/publications", dict[str, list[PublicationView]])["publications"]
    except BridgeError:
        return []
