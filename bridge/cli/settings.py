"""The verbs on the configuration."""

from typing import Any

import click
import msgspec

from bridge.cli import options, text


@click.group("config")
def config_command() -> None:
    """Show or check the configuration."""


@config_command.command("show")
@options.settings("tree", "listen", "podman_socket")
@options.as_json
@click.pass_context
def show_command(context: click.Context, /, json_output: bool, **values: Any) -> None:
    """Print every effective setting with where its value came from."""
    loaded = options.load(context, values)
    if json_output:
        text.json({key: {"value": value, "origin": origin} for key, value, origin in loaded.values()})
        return
    rows = [(key, msgspec.json.encode(value).decode(), origin) for key, value, origin in loaded.values()]
    text.table(("SETTING", "VALUE", "ORIGIN"), rows)


@config_command.command("check")
@options.settings()
@click.pass_context
def check_command(context: click.Context, /, **values: Any) -> None:
    """Read the configuration and say whether it is in order. Exits 78 where it is not."""
    from bridge.config import default_file
    from bridge.service.parts import podman_socket

    podman_socket(options.load(context, values).config)
    named = values.get("config_file") or context.find_root().obj
    if named or default_file().exists():
        click.echo(f"{named or default_file()}: in order")
    else:
        click.echo(f"no {default_file()}: the defaults apply")
