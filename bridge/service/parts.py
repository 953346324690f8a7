"""Building what reconciles: a podman to talk to, an exporter, a tree."""

import contextlib
import shutil
import socket
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from bridge.conditions import Conditions
from bridge.config import Config, Export, default_podman_socket, runtime_dir
from bridge.errors import ConfigError
from bridge.oci import Digest
from bridge.plan import Image, Plan, Shown, make_plan
from bridge.podman.client import Podman
from bridge.podman.save import Commands
from bridge.podman.service import embedded, listens
from bridge.policy import Policy
from bridge.publish.export import Exporter
from bridge.publish.local import Local
from bridge.publish.parts import Bounds, Parts
from bridge.publish.reconcile import Reconciler
from bridge.publish.rest import Rest
from bridge.tree.publisher import Tree
from bridge.units import Address

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
async def connected(config: Config) -> AsyncIterator[Podman]:
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
            await stack.enter_async_context(embedded(config.podman.command, path))
        yield await stack.enter_async_context(Podman(path))


def own_podman_socket(config: Config) -> Path:
    """Return where podbridge's own podman service listens: one place per tree, in the runtime directory."""
    mark = Digest.of(str(config.tree).encode()).hex[:12]
    return runtime_dir() / f"podman-{mark}.sock"


def policy(config: Config, address: Address | None = None) -> Policy:
    """Return the policy of the configuration, for a registry that listens on `address`."""
    listen = address or config.registry.listen
    hosts = (listen.host, "localhost", "127.0.0.1", socket.gethostname())
    return Policy(config.publish, frozenset(f"{host}:{listen.port}" for host in hosts), config.keep)


def reconciler(config: Config, podman: Podman, tree: Tree, conditions: Conditions, rules: Policy) -> Reconciler:
    """Build the reconciler of a configuration."""
    is_rest = exports_over_rest(config)
    transport = Rest(podman) if is_rest else Local(podman, Commands(config.podman.command))
    exporter = Exporter(podman, transport, tree)
    return Reconciler(Parts(podman, exporter, tree, rules, conditions, bounds(config)))


def bounds(config: Config) -> Bounds:
    """Return what a reconciler keeps to."""
    return Bounds(config.resync, config.grace, config.max_withdraw)


def plan(config: Config, images: Collection[Image], tree: Shown) -> Plan:
    """Say what a pass would do."""
    return make_plan(policy(config).wanted(images).targets, tree, images, time.time())
