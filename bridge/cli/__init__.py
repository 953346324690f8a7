"""The command line. Every verb imports what it needs when it runs, so that `--help` is quick."""

import contextlib
import io
import sys

import click

from bridge import __version__
from bridge.cli.options import config_file
from bridge.errors import BridgeError, ConfigError
from bridge.untrusted_text import NEW_LINES, escaped

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
    "publish": "bridge.cli.publish",
    "withdraw": "bridge.cli.ask",
    "resync": "bridge.cli.ask",
    "events": "bridge.cli.follow",
    "verify": "bridge.cli.offline",
    "gc": "bridge.cli.offline",
    "hooks": "bridge.cli.hooks",
    "config": "bridge.cli.settings",
}


SUMMARIES = {
    "serve": "Watch podman, publish every image, serve the registry.",
    "sync": "Publish and withdraw once what podman's store asks for, and exit.",
    "registry": "Serve a tree, and do nothing else.",
    "status": "Say how the service is.",
    "list": "List the publications.",
    "explain": "Say why IMAGE is or is not published.",
    "publish": "Publish IMAGE now.",
    "withdraw": "Take a publication out of the tree.",
    "resync": "Have the service look at podman's whole store now.",
    "events": "Follow what is published, withdrawn, or fails.",
    "verify": "Hash every blob of the tree again, follow every reference, and compare what is derived.",
    "gc": "Remove blobs that nothing references any more.",
    "hooks": "List the hooks of each stage.",
    "config": "Show or check the configuration.",
}
"""What `--help` says of each verb, which it thus need not import: that would take longer than all the rest."""


class _Verbs(click.Group):
    """Finds a verb in its module, which is imported only then."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_VERBS)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in _VERBS])

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
    """Run the command line: an error of podbridge, or of a disk, is one line and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a question mark for what a terminal's encoding has no sign for
    try:
        cli(prog_name="podbridge")
    except (BridgeError, ExceptionGroup) as raised:
        error = _unwrapped(raised)
        if not isinstance(error, BridgeError):
            raise
        click.echo(f"podbridge: {escaped(str(error), keep=NEW_LINES)}", err=True)
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigError) else 1)
    except OSError as error:
        if error.strerror is None:
            raise  # it is not the kernel's
        named = error.filename or "cannot write"  # standard output has no name
        click.echo(f"podbridge: {named}: {error.strerror}", err=True)
        with contextlib.suppress(OSError):
            sys.stdout.close()  # or what it still holds were tried again at the exit, which has a code of its own
        sys.exit(1)


def _unwrapped(error: Exception) -> Exception:
    """Return what was raised: a task group wraps it, each time that it passes one."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
