"""The command line. Every verb imports what it needs when it runs, so that `--help` is quick."""

import sys

import click

from bridge import __version__
from bridge.cli.options import config_file
from bridge.errors import BridgeError, ConfigError

EXIT_CONFIG = 78
"""`EX_CONFIG` of sysexits.h: a setting is wrong, so that a service manager need not try again."""
EXIT_CODES = {0: "done", 1: "failed and said why", 2: "usage", EXIT_CONFIG: "configuration"}

_VERBS = {
    "serve": "bridge.cli.run",
    "sync": "bridge.cli.run",
    "registry": "bridge.cli.run",
    "status": "bridge.cli.status",
    "list": "bridge.cli.ask",
    "explain": "bridge.cli.ask",
    "publish": "bridge.cli.ask",
    "withdraw": "bridge.cli.ask",
    "resync": "bridge.cli.ask",
    "verify": "bridge.cli.offline",
    "gc": "bridge.cli.offline",
    "config": "bridge.cli.settings",
}


class _Verbs(click.Group):
    """Finds a verb in its module. `--help` needs all of them: they import little by themselves."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = __import__(_VERBS[cmd_name], fromlist=[cmd_name])
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)  # noqa: S101
        return command


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Exit codes: {', '.join(f'{code} {words}' for code, words in EXIT_CODES.items())}.",
)
@click.version_option(__version__, prog_name="podbridge", message="%(prog)s %(version)s")
@config_file
@click.pass_context
def cli(context: click.Context, config_file: str | None) -> None:
    """Make every image in a podman store pullable from a read-only OCI registry."""
    context.obj = config_file


def main() -> None:
    """Run the command line: an error of podbridge is one line and an exit code, never a traceback."""
    try:
        cli(prog_name="podbridge")
    except ConfigError as error:
        click.echo(f"podbridge: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    except BridgeError as error:
        click.echo(f"podbridge: {error}", err=True)
        sys.exit(1)
