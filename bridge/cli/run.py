"""The verbs that run something: `serve`, `sync`, `registry`."""

import asyncio
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from bridge import descriptors
from bridge.cli import options, text

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.config import Config
    from bridge.service.steering import Steering
    from bridge.service.supervision import Supervision


log = logging.getLogger(__name__)

Load = Callable[[], "Config"]
"""Reads the configuration, each time anew."""


@click.command("serve")
@options.settings("tree", "listen", "podman_socket")
@click.pass_context
def serve_command(context: click.Context, /, **values: Any) -> None:
    """Watch podman, publish every image, serve the registry.

    Runs until SIGINT or SIGTERM; SIGHUP has it read its configuration again.
    """
    _run(_serve(lambda: options.load(context, values).config))


@click.command("sync")
@options.settings("tree", "podman_socket")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Let a mass withdrawal through.")
@click.option("--encode", is_flag=True, help="Compress new layers for the wire, too, before it ends.")
@options.as_json
@click.pass_context
def sync_command(context: click.Context, /, dry_run: bool, json_output: bool, **values: Any) -> None:
    """Publish and withdraw once what podman's store asks for, and exit.

    For timers, scripts and CI.
    """
    config = options.load(context, values).config
    prune = values["prune"]
    work = _dry_run(config, json_output, prune) if dry_run else _sync(config, json_output, prune, values["encode"])
    sys.exit(_run(work, interrupted=130))


@click.command("registry")
@options.settings("tree", "listen")
@click.pass_context
def registry_command(context: click.Context, /, **values: Any) -> None:
    """Serve a tree, and do nothing else.

    Needs no podman. Runs until SIGINT or SIGTERM; SIGHUP has it read its configuration again.
    """
    _run(_registry(lambda: options.load(context, values).config))


def _run(main: Coroutine[Any, Any, int], *, interrupted: int = 0) -> int:
    """Run `main`; SIGTERM, SIGINT and the loss of its terminal end it in order, with `interrupted` as its exit code."""
    descriptors.raise_limit()

    async def guarded() -> int:
        task = asyncio.ensure_future(main)
        for number in (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if text.is_terminal() else ())):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return interrupted

    return asyncio.run(guarded())


async def _serve(load: Load) -> int:
    from bridge.cli import terminal
    from bridge.service.serve import running
    from bridge.service.settings import Settings
    from bridge.service.supervision import Supervision
    from bridge.service.words import ServiceWords
    from bridge.systemd import Notifier, Sockets

    notifier, sockets = Notifier.adopt(os.environ), Sockets.adopt(os.environ)
    settings = Settings(load())
    console = terminal.start_logging(settings.config.log)
    async with running(settings, sockets) as service:
        supervision = Supervision(ServiceWords(service.reconciler), settings, load)
        _reload_on_hangup(supervision)
        scheme = settings.config.registry.scheme
        _greet(console, service, scheme)
        async with (
            supervision.running(notifier),
            terminal.showing_exports(console, service.reconciler.parts.exporter.look),
        ):
            await service.reconciler.ready.wait()
            _invite(console, service, scheme)
            await asyncio.Event().wait()
    return 0


def _reload_on_hangup(supervision: "Supervision") -> None:
    """Have SIGHUP read the configuration again; on a terminal it says that this has gone, and ends the service."""
    if not text.is_terminal():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, supervision.reload)


def _greet(console: "Console | None", service: "Steering", scheme: str) -> None:
    status = service.status()
    if console is None:
        log.info("serving registry=%s tree=%s podman_socket=%s", status.registry, status.tree, status.podman_socket)
        return
    own = ", a service that podbridge runs itself" if service.facts.own_podman else ""
    console.print(
        f"podbridge {status.version}\n"
        f"  watches   podman on {status.podman_socket}{own}\n"
        f"  tree      {status.tree}\n"
        f"  registry  {scheme}://{status.registry}\n",
        highlight=False,
        soft_wrap=True,
    )


def _invite(console: "Console | None", service: "Steering", scheme: str) -> None:
    status = service.status()
    if console is None:
        log.info("ready published=%d failed=%d", status.counts["published"], status.counts["failed"])
        return
    plain = "--tls-verify=false " if scheme == "http" else ""
    console.print(
        f"Ready: {status.counts['published']} published. Try, in a second terminal:\n"
        "  podman build -t localhost/hello:1 .\n"
        f"  podman pull {plain}{status.registry}/hello:1\n",
        highlight=False,
        soft_wrap=True,
    )


async def _sync(config: "Config", json_output: bool, prune: bool, encode: bool) -> int:
    from bridge.cli import terminal
    from bridge.service import connecting
    from bridge.tree.publisher import Tree

    connecting.require_podman(config)
    console = terminal.start_logging(config.log)
    with Tree(config.tree) as tree:
        async with connecting.connected(config) as podman:
            from bridge.conditions import Conditions
            from bridge.service import parts
            from bridge.service.afterwards import hearing

            reconciler = parts.reconciler(config, podman, tree, Conditions(), parts.policy(config))
            watched = terminal.showing_exports(console, reconciler.parts.exporter.look)
            async with watched, hearing(reconciler.parts, patience=None):
                await reconciler.once(prune=prune)
    failures = {str(failure.target.reference): failure.message for failure in reconciler.failures}
    denied = reconciler.failures.denied
    damage = {one.image_id: str(one) for one in reconciler.damage}
    if json_output:
        told = {"published": sorted(map(str, reconciler.shown.publications)), "failures": failures}
        text.json(told | ({"damage": damage} if damage else {}))
    else:
        counts = ((len(failures) - denied, "failed"), (denied, "denied"))
        more = "".join(f", {count} {what}" for count, what in counts if count)
        more += ", not all could be written" if reconciler.is_unwritten else ""
        click.echo(f"{len(reconciler.shown.publications)} published in {tree.paths.root}{more}")
        for words in damage.values():
            click.echo(words, err=True)
    if encode:
        from bridge.service.encoding import encode_once

        if failure := await encode_once(config):
            click.echo(f"encodings are missing: {failure}", err=True)
            return 1
    return 1 if failures or damage or reconciler.held_back or reconciler.is_unwritten else 0


async def _dry_run(config: "Config", json_output: bool, prune: bool) -> int:
    from bridge.publish.looking import Lookout
    from bridge.service import connecting, parts, views
    from bridge.tree.contents import shown

    connecting.require_podman(config)
    tree = shown(config.tree)
    async with connecting.connected(config) as podman:
        plan = await Lookout(podman, parts.transport(config, podman)).plan(parts.policy(config), tree)
    text.plan(views.plan(plan, tree, math.inf if prune else config.max_withdraw), json_output=json_output)
    return 0


async def _registry(load: Load) -> int:
    from bridge.cli import terminal
    from bridge.service.idle import until_idle
    from bridge.service.serve import registry_only
    from bridge.service.settings import Settings
    from bridge.service.supervision import Supervision
    from bridge.service.words import RegistryWords
    from bridge.systemd import Notifier, Sockets

    notifier, sockets = Notifier.adopt(os.environ), Sockets.adopt(os.environ)
    settings, is_activated = Settings(load()), "registry" in sockets
    config = settings.config
    console = terminal.start_logging(config.log)
    async with registry_only(settings, sockets) as pulls:
        log.info("serving registry=%s tree=%s", pulls.address, config.tree)
        if not config.tree.exists():
            log.warning("there is no tree yet, nothing is served until one is published tree=%s", config.tree)
        if console is not None:
            console.print(f"registry  {config.registry.scheme}://{pulls.address}, over {config.tree}", highlight=False)
        supervision = Supervision(RegistryWords(config.tree), settings, load)
        _reload_on_hangup(supervision)
        async with supervision.running(notifier):
            await (until_idle(settings, pulls) if is_activated else asyncio.Event().wait())
    return 0
