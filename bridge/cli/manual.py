r"""The manual page, made from the command line's own help: `python -m bridge.cli.manual > podbridge.1`.

It is man(7) source. Every text goes through `_escape`, so that none of it is taken for a request.
"""

import os
import re
import textwrap
import time
from collections.abc import Iterator

import click

from bridge import __version__
from bridge.cli import EXIT_CODES, cli

_ABOUT = """\
podbridge makes every image in a podman store pullable the moment it exists. Build, tag, pull, load or
commit an image with podman, buildah or skopeo, and within a second any podman, Docker, containerd or
Kubernetes node can pull it from a read-only OCI registry, under the digest that podman shows.

Without a configuration it watches the podman of the user who runs it and listens on 127.0.0.1:5000. A name
localhost/app:1 is published as app:1, other names as they are."""

_FILES = (
    ("/etc/podbridge/podbridge.yaml", "Root's configuration; a user's is $XDG_CONFIG_HOME/podbridge/podbridge.yaml."),
    ("/var/lib/podbridge", "Root's tree; a user's is $XDG_DATA_HOME/podbridge."),
    ("/run/podbridge/control.sock", "Where the verbs find root's service; a user's is in $XDG_RUNTIME_DIR/podbridge."),
)
_ENVIRONMENT = (
    ("NO_COLOR", "With any value: no colours on a terminal."),
    ("XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_RUNTIME_DIR", "Where a user's files are."),
    ("JOURNAL_STREAM, LISTEN_FDS, NOTIFY_SOCKET", "Set by systemd: log with fields, adopted sockets, readiness."),
)


def page() -> str:
    """Return the manual page."""
    context = cli.make_context("podbridge", [], resilient_parsing=True)
    return "\n".join([*_head(), *_synopsis(context), *_verbs(context), *_tail()]) + "\n"


def _head() -> Iterator[str]:
    date = time.strftime("%Y-%m-%d", time.gmtime(float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))
    yield f'.TH PODBRIDGE 1 {date} "podbridge {_escape(__version__)}" "User Commands"'
    yield ".SH NAME"
    words = _escape((cli.help or "").rstrip("."))
    yield f"podbridge \\- {words[:1].lower()}{words[1:]}"


def _synopsis(context: click.Context) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield ".B podbridge"
    yield _escape("[--config FILE] VERB [OPTION]... [ARGUMENT]...")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_ABOUT)
    yield ".SH OPTIONS"
    yield from _options(cli, context)


def _verbs(context: click.Context) -> Iterator[str]:
    yield ".SH VERBS"
    for path, command, own in _commands(context, ()):
        usage = (word for word in command.collect_usage_pieces(own) if word != "[OPTIONS]")
        yield f".SS {_escape(' '.join([*path, *usage]))}"
        yield from _paragraphs(command.help or "")
        yield from _options(command, own)


def _commands(
    context: click.Context, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Yield each verb, and those below it, that are not hidden."""
    group = context.command
    assert isinstance(group, click.Group)  # noqa: S101
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        own = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(own, (*path, name))
        else:
            yield (*path, name), command, own


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        told = parameter.get_help_record(context)
        if told is not None:
            yield ".TP"
            yield f"\\fB{_escape(told[0])}\\fR"
            yield from _wrapped(told[1])


def _tail() -> Iterator[str]:
    codes = ((str(code), f"{words[:1].upper()}{words[1:]}.") for code, words in EXIT_CODES.items())
    for title, entries in (("EXIT STATUS", codes), ("FILES", _FILES), ("ENVIRONMENT", _ENVIRONMENT)):
        yield f".SH {title}"
        for name, words in entries:
            yield ".TP"
            yield f"\\fB{_escape(name)}\\fR"
            yield from _wrapped(words)
    yield ".SH SEE ALSO"
    yield ".BR podman (1),"
    yield ".BR skopeo (1),"
    yield ".BR systemd.socket (5),"
    yield ".BR containers\\-registries.conf (5)"


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; a block that begins with click's backspace keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *map(_escape, paragraph.splitlines()[1:]), ".fi")
        else:
            yield from _wrapped(paragraph)


def _wrapped(text: str) -> Iterator[str]:
    """Yield text in lines that a reader of the source can bear."""
    yield from map(_escape, textwrap.wrap(" ".join(text.split()), 72, break_on_hyphens=False))


def _escape(text: str) -> str:
    """Return text as man(7) source: a backslash, a hyphen and what begins a request are themselves."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    click.echo(page(), nl=False)
