"""Which podman is meant, and the way to it: a service that is there, or one of podbridge's own.

It imports little by itself, so that podman's service starts while the rest is imported.
"""

import asyncio
import contextlib
import importlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.config import Config, Export, default_podman_socket, runtime_dir
from bridge.errors import ConfigError
from bridge.oci import Digest
from bridge.podman.service import embedded, listens

if TYPE_CHECKING:
    from bridge.podman.client import Podman

_LONGEST_SOCKET = 107
"""Bytes of the longest path of a unix socket."""
_OWN_COMMAND = ("podman",)


def exports_over_rest(config: Config) -> bool:
    """Say whether images are read over podman's socket, not by a podman of this machine.

    Nothing tells for certain whether a program and a service look at one store. They do where both are
    the user's own; where `podman.command` is set, whoever set it says so.
    """
    podman = config.podman
    if podman.export is not Export.AUTO or podman.command != _OWN_COMMAND:
        return podman.export is Export.REST
    path = podman_socket(config)
    is_installed = shutil.which(podman.command[0]) is not None
    return path != default_podman_socket() if is_installed else podman.socket is not None or listens(path)


def require_podman(config: Config) -> None:
    """Raise ConfigError where podman is not installed, and is needed."""
    program = config.podman.command[0]
    if shutil.which(program) is None and not exports_over_rest(config):
        msg = f"{program} is not installed (podman.command); install podman, or serve a tree with `podbridge registry`"
        raise ConfigError(msg)


def podman_socket(config: Config) -> Path:
    """Return the socket of the configuration, or the user's own; raise ConfigError for what is no path."""
    text = config.podman.socket
    if text is None:
        return default_podman_socket()
    path = text.removeprefix("unix://")
    if not path.startswith("/") or len(path.encode()) > _LONGEST_SOCKET:
        msg = f"podman.socket: expected unix:///PATH of at most {_LONGEST_SOCKET} bytes, got {text!r}"
        raise ConfigError(msg)
    return Path(path)


@contextlib.asynccontextmanager
async def connected(config: Config) -> AsyncIterator["Podman"]:
    """Connect to podman while the block runs; run a service of podbridge's own where none listens.

    It does so for the user's own store, or for the one that `podman.command` names. A socket that is
    set to another place is waited for: a service of our own there might show another store.
    """
    path = podman_socket(config)
    other_store = config.podman.socket is None and config.podman.command != _OWN_COMMAND
    async with contextlib.AsyncExitStack() as stack:
        is_silent = path == default_podman_socket() and not listens(path)
        if (other_store or is_silent) and not exports_over_rest(config):
            path = own_podman_socket(config)
            async with asyncio.TaskGroup() as group:
                # aiohttp takes as long to import as podman's service to start: both cores do their part
                group.create_task(asyncio.to_thread(importlib.import_module, "bridge.publish.reconcile"))
                await stack.enter_async_context(embedded(config.podman.command, path))
        from bridge.podman.client import Podman  # noqa: PLC0415 - not before the service starts

        yield await stack.enter_async_context(Podman(path))


def own_podman_socket(config: Config) -> Path:
    """Return where podbridge's own podman service listens: one place per tree, in the runtime directory."""
    mark = Digest.of(str(config.tree).encode()).hex[:12]
    return runtime_dir() / f"podman-{mark}.sock"
