"""The service: registry, control API and reconciler in one process, with an orderly start and stop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from bridge.changes import Action, Change, Trigger
from bridge.conditions import Conditions, Kind
from bridge.config import ApiConfig, Config, ControlConfig
from bridge.errors import PodmanError
from bridge.listening import unix_socket, warn_of_group
from bridge.podman import doorbell, events
from bridge.podman.client import Podman
from bridge.publish.reconcile import Reconciler
from bridge.registry import server as registry
from bridge.registry import workers
from bridge.registry.workers import Workers
from bridge.service import api, commands, connecting, parts, requests
from bridge.service.afterwards import PATIENCE, hearing
from bridge.service.encoding import keep_encoded
from bridge.service.healing import Healing
from bridge.service.settings import Settings
from bridge.service.steering import Facts, Steering
from bridge.service.tasks import Tasks
from bridge.systemd import Sockets
from bridge.tree.contents import check_version
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree
from bridge.units import Address

_RETURNS = (events.CONNECTED, events.LOST, doorbell.ARMED)
"""Reasons to look that tell of podman and not of an image."""


@contextlib.asynccontextmanager
async def running(settings: Settings, sockets: Sockets) -> AsyncIterator[Steering]:
    """Run the service while the block runs, on `sockets` where they hold its own.

    The registry answers from the first moment with what the tree held before, and goes on while
    podman is away. Raises BridgeError where the service cannot start.
    """
    config = settings.config
    connecting.require_podman(config)
    conditions = Conditions()
    with Tree(config.tree, read_only=True) as tree:
        _say_writable(tree, conditions)
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            control_socket = stack.enter_context(_unix_socket(sockets, "control", config.control))
            api_socket = stack.enter_context(_unix_socket(sockets, "api", config.api)) if config.api else None
            pulls = await enter(_pulls(settings, sockets))
            facts = Facts(pulls.address, config.registry.scheme)
            podman = await enter(connecting.connected(config))
            facts.own_podman = podman.socket == connecting.own_podman_socket(config)
            rules = parts.policy(config, Address(facts.registry))
            reconciler = parts.reconciler(config, podman, tree, conditions, rules)
            healing = Healing(reconciler, settings)
            pulls.on_damage = healing.hear
            steering = Steering(reconciler, await enter(requests.taken(reconciler)), facts, pulls, settings, healing)
            await enter(commands.taken(config, steering, control_socket))
            await enter(hearing(reconciler.parts, PATIENCE))
            if api_socket is not None:
                await enter(api.serving(config, steering, api_socket))
            await enter(_watching(settings, reconciler, facts, healing))
            yield steering


def _say_writable(tree: Tree, conditions: Conditions) -> None:
    """Say whether the tree can be written. If not, what is there is served, and each write tries it again."""
    if tree.is_writable:
        conditions.confirm(Kind.TREE_WRITABLE)
    else:
        message = (
            f"{tree.paths.root} can only be read, or its disk is full: "
            "it is served as it is, and nothing is published into it"
        )
        conditions.deny(Kind.TREE_WRITABLE, "ReadOnly", message)


def _unix_socket(
    sockets: Sockets, section: str, settings: ControlConfig | ApiConfig
) -> contextlib.AbstractContextManager[socket.socket]:
    """Adopt systemd's socket for a section of the configuration, or have one of its own. As `unix_socket` raises."""
    passed = sockets.take(section)
    if passed is None:
        return unix_socket(settings.socket, section, settings.group)
    if settings.group is not None:
        warn_of_group(passed, section, settings.group)
    return passed


@contextlib.asynccontextmanager
async def _watching(settings: Settings, reconciler: Reconciler, facts: Facts, healing: Healing) -> AsyncIterator[None]:
    """Reconcile at every reason to look, encode what is published, and heal what is damaged, while the block runs."""
    podman, conditions = reconciler.parts.podman, reconciler.parts.conditions
    published, connected = asyncio.Event(), asyncio.Event()

    async def follow(config: Config) -> None:
        facts.scheme = config.registry.scheme
        reconciler.follow(parts.policy(config, Address(facts.registry)), parts.bounds(config))
        published.set()

    work: dict[str, Callable[[], Awaitable[None]]] = {
        "reconcile": reconciler.run,
        "doorbell": lambda: _poke(doorbell.for_ever(podman, conditions), Trigger.DOORBELL, reconciler, connected),
        "events": lambda: _poke(events.for_ever(podman, conditions), Trigger.EVENT, reconciler, connected),
        "version": lambda: _ask_version(podman, facts, connected),
        "encode": lambda: keep_encoded(settings, published),
        "heal": healing.heal,
        "scrub": healing.scrub,
    }
    kept = Tasks(conditions)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(kept.keep(name, run)) for name, run in work.items()]
        try:
            heard = reconciler.parts.changes.heard_by(lambda change: _ring(change, published))
            with heard, settings.followed_by(follow):
                yield
        finally:
            for task in tasks:
                task.cancel()


def _ring(change: Change, published: asyncio.Event) -> None:
    if change.action is Action.PUBLISHED:
        published.set()


async def _poke(
    reasons: AsyncGenerator[str], trigger: Trigger, reconciler: Reconciler, connected: asyncio.Event
) -> None:
    async with contextlib.aclosing(reasons):
        async for reason in reasons:
            reconciler.poke(reason, Trigger.RESYNC if reason in _RETURNS else trigger)
            if reason == events.CONNECTED:
                connected.set()


async def _ask_version(podman: Podman, facts: Facts, connected: asyncio.Event) -> None:
    """Ask podman for its version at every connection, beside the stream: one that is not read counts as open."""
    while True:
        await connected.wait()
        connected.clear()
        with contextlib.suppress(PodmanError):
            facts.podman = await podman.version()


@contextlib.asynccontextmanager
async def registry_only(settings: Settings, sockets: Sockets) -> AsyncIterator[Workers]:
    """Serve the tree while the block runs, with no podman and no publisher.

    The tree may be made later; raises TreeError for a directory that is something else.
    """
    check_version(TreePaths(settings.config.tree), new=True)
    async with _pulls(settings, sockets) as pulls:
        yield pulls


@contextlib.asynccontextmanager
async def _pulls(settings: Settings, sockets: Sockets) -> AsyncIterator[Workers]:
    """Answer pulls while the block runs, on systemd's socket or on the address of the settings."""
    listen = settings.config.registry.listen
    listener = sockets.take("registry") or registry.listen(listen.host, listen.port)
    sockets.require_taken()
    async with workers.running(listener, settings.config) as pulls:
        with settings.followed_by(pulls.reload):
            yield pulls
