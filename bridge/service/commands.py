"""Taking commands: the control API on its socket, the probes on TCP, with the feed and the metrics that they show."""

import contextlib
import socket
from collections.abc import AsyncIterator

from bridge.changes import Change
from bridge.config import Config
from bridge.control import server as control
from bridge.control.api import Sources
from bridge.control.feed import Feed
from bridge.service import views
from bridge.service.metrics import Metrics
from bridge.service.steering import Steering


@contextlib.asynccontextmanager
async def taken(config: Config, steering: Steering, listener: socket.socket) -> AsyncIterator[None]:
    """Take commands on `listener` while the block runs. Raises ListenError where the probes cannot listen."""
    feed, metrics = Feed(), Metrics(steering)
    sources = Sources(steering, feed, metrics)
    changes = steering.reconciler.parts.changes

    def hear(change: Change) -> None:
        metrics.hear(change)
        feed.tell(views.event(change))

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(changes.heard_by(hear))
        await stack.enter_async_context(control.serving(sources, listener))
        steering.facts.sockets |= {
            "control": str(config.control.socket),
            "registry": steering.facts.registry,
            "podman": str(steering.reconciler.parts.podman.socket),
        }
        if config.metrics.listen is not None:
            probes = stack.enter_context(control.listening_on_tcp(config.metrics.listen))
            await stack.enter_async_context(control.probed(sources, probes))
            steering.facts.sockets["metrics"] = control.address_of(probes)
        yield
