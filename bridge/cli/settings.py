"""The verbs on the configuration."""

from typing import Any

import click

from bridge.cli import options, text
from bridge.cli.trust import tls_init_command

_TEMPLATE_ADDRESS = "127.0.0.1:5000"
_TEMPLATES = ("registries.conf", "hosts.toml", "registries.yaml", "daemon.json")
"""In `clients/` beside this module, and in `clients/tls/` for HTTPS; contrib/containers links to the former."""


@click.group("config")
def config_command() -> None:
    """Show or check the configuration."""


config_command.add_command(tls_init_command)


@config_command.command("show")
@options.settings("tree", "listen", "podman_socket")
@options.as_json
@click.pass_context
def show_command(context: click.Context, /, json_output: bool, **values: Any) -> None:
    """Print every effective setting with where its value came from."""
    import msgspec

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
    from bridge.service.connecting import podman_socket

    podman_socket(options.load(context, values).config)
    named = values.get("config_file") or context.find_root().obj
    if named or default_file().exists():
        click.echo(f"{named or default_file()}: in order")
    else:
        click.echo(f"no {default_file()}: the defaults apply")


@config_command.command("clients")
@click.argument("file", type=click.Choice(_TEMPLATES))
@click.option(
    "--address", metavar="HOST:PORT", help="How the clients reach the registry; default: as the service says."
)
@options.settings("listen")
@click.pass_context
def clients_command(context: click.Context, /, file: str, address: str | None, **values: Any) -> None:
    """Print a file that points a client at the registry.

    registries.conf is for podman, buildah, skopeo and CRI-O, hosts.toml for containerd, registries.yaml
    for k3s, daemon.json for Docker Engine. Each says where it belongs. With registry.tls they speak HTTPS,
    and say where ca.crt belongs; Docker Engine looks for it in /etc/docker/certs.d/HOST:PORT.
    """
    from importlib import resources

    templates = resources.files("bridge.cli") / "clients"
    if options.load(context, values).config.registry.tls is not None:
        templates /= "tls"
    template = (templates / file).read_text(encoding="utf-8")
    click.echo(template.replace(_TEMPLATE_ADDRESS, address or _running(context, values)), nl=False)


def _running(context: click.Context, values: dict[str, Any]) -> str:
    """Return where the running service's registry listens; where none runs, where it would."""
    from bridge.cli.client import Client, NoServiceError
    from bridge.control.schema import Status

    config = options.load(context, values).config
    if values["listen"] is None:
        try:
            return Client(config.control.socket).get("/status", Status).registry
        except NoServiceError:
            pass
    return config.registry.listen
