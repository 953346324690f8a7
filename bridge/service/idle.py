"""A registry that systemd starts at the first request ends when nobody asks any more."""

import asyncio
import logging
import time

from bridge.registry.workers import Workers
from bridge.service.settings import Settings

log = logging.getLogger(__name__)

_EVERY = 1.0
"""Seconds between two looks: what the workers tell is not newer."""


async def until_idle(settings: Settings, pulls: Workers) -> None:
    """Return when no request was under way for `registry.idle_exit`; without that setting, never.

    Nothing is cut: while anybody is connected it does not return, and when it does the workers accept nobody
    any more. A request that comes at that very moment waits at systemd's socket for the next start.
    """
    busy = time.monotonic()
    requests = 0
    while True:
        await asyncio.sleep(_EVERY)
        traffic, limit = pulls.traffic, settings.config.registry.idle_exit
        seen = sum(traffic.requests.values())
        if traffic.under_way or seen != requests:
            busy, requests = time.monotonic(), seen
            continue
        is_over = limit is not None and time.monotonic() - busy >= limit
        if is_over and not traffic.connections and await pulls.retire():
            log.info("nobody asks, ending until the next request idle_seconds=%d", limit)
            return
