"""The options that several verbs share, and the configuration that they make."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.cli.client import Client
    from bridge.config import Loaded

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FLAGS = {"tree": "tree", "listen": "registry.listen", "podman_socket": "podman.socket"}
"""An option's parameter, and the setting that it overrides."""


def _file(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _directory(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def config_file(function: _Function) -> _Function:
    """Give a verb `--config`."""
    words = "Read this configuration file."
    return click.option("--config", "config_file", metavar="FILE", help=words, shell_complete=_file)(function)


def _tree(function: _Function) -> _Function:
    words = "Publish into, or read, this tree."
    return click.option("--tree", metavar="DIR", help=words, shell_complete=_directory)(function)


def _listen(function: _Function) -> _Function:
    return click.option("--listen", metavar="HOST:PORT", help="Where the registry listens.")(function)


def _podman(function: _Function) -> _Function:
    return click.option("--podman-socket", metavar="SOCKET", help="Podman's socket, unix:///PATH.")(function)


def settings(*kinds: str) -> Callable[[_Function], _Function]:
    """Give a verb `--config` and the named overrides: `tree`, `listen`, `podman_socket`."""
    options = {"tree": _tree, "listen": _listen, "podman_socket": _podman}

    def decorate(function: _Function) -> _Function:
        for kind in reversed(kinds):
            function = options[kind](function)
        return config_file(function)

    return decorate


def as_json(function: _Function) -> _Function:
    """Give a verb `--json`."""
    return click.option("--json", "json_output", is_flag=True, help="Print JSON.")(function)


def load(context: click.Context, values: dict[str, Any]) -> "Loaded":
    """Load the configuration with the options of a verb over it, and those before the verb under them."""
    from pathlib import Path

    from bridge import config

    file = values.get("config_file") or context.find_root().obj
    flags = {_FLAGS[name]: value for name, value in values.items() if name in _FLAGS}
    return config.load(Path(file) if file else None, flags)


def client(context: click.Context, values: dict[str, Any]) -> "Client":
    """Return the way to the running service: the user's own, or, where he has none, the one of the system."""
    from bridge.cli.client import Client
    from bridge.config import SYSTEM_SOCKET

    loaded = load(context, values)
    socket = loaded.config.control.socket
    if loaded.origins.get("control.socket") is None and not _is_there(socket) and _is_there(SYSTEM_SOCKET):
        socket = SYSTEM_SOCKET
    return Client(socket)


def _is_there(path: "Path") -> bool:
    """Say whether there is such a file; what lies in a directory that is closed to the user is not there for him."""
    with contextlib.suppress(PermissionError):
        return path.exists()
    return False
