"""The processes that answer pulls, seen from the parent: started, replaced, ended in order, their traffic added up.

docs/decisions/0011-workers.md says why it is as it is.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from bridge.config import Config
from bridge.registry.exposure import warn_if_open
from bridge.registry.htpasswd import Htpasswd
from bridge.registry.messages import Order
from bridge.registry.place import Place
from bridge.registry.server import address_of
from bridge.registry.tls import make_context
from bridge.registry.traffic import Traffic


class Workers:
    """The workers of one listening socket. `on_damage` is told the digest of each blob that they find damaged."""

    def __init__(self, listener: socket.socket) -> None:
        self.address = address_of(listener)
        self.on_damage: Callable[[str], None] = lambda _digest: None
        self._listener = listener
        self._gone = Traffic()
        self._places: list[Place] = []
        self._retired = False
        self._changing = asyncio.Lock()

    @property
    def traffic(self) -> Traffic:
        """What all workers have served since the start, the dead ones included.

        A worker tells it a second after a change, and when it ends; one that is killed takes its last
        second with it.
        """
        return sum((place.traffic for place in self._places), self._gone)

    @property
    def processes(self) -> list[int]:
        """The pids of the workers that run now."""
        return [place.pid for place in self._places if place.pid is not None]

    def _hear(self, digest: str) -> None:
        self.on_damage(digest)

    async def reload(self, config: Config) -> None:
        """Replace all workers by ones with these settings; the socket stays, whatever address they name.

        The new ones accept before the old ones stop, and the old ones answer what they were asked: no
        request is lost. Returns when the old ones have gone. Where it raises, all is as before:
        ConfigError for a file that cannot be used, ListenError where a worker does not start.
        """
        check(config)
        async with self._changing:
            if self._retired:
                return  # it ends, and whoever comes next has the new settings
            old = self._places
            new = [Place(self._order(config), self._hear) for _ in range(config.registry.workers)]
            self._places = [*old, *new]
            try:
                await asyncio.gather(*(place.open() for place in new))
            except BaseException:
                await self._close(new)
                raise
            await self._close(old)

    async def retire(self) -> bool:
        """Have all workers accept nobody any more, if no client is there; else go on as before, and return False.

        No request is lost: what is asked from then on waits at the socket for whoever accepts from it next.
        """
        async with self._changing:
            self._retired = all(await asyncio.gather(*(place.pause() for place in self._places)))
            if not self._retired:
                for place in self._places:
                    place.resume()
            return self._retired

    async def stop(self) -> None:
        """Have all workers answer what they were asked, and end."""
        self._listener.close()
        await self._close(self._places)

    async def _close(self, places: list[Place]) -> None:
        await asyncio.gather(*(place.close() for place in places))
        self._gone = sum((place.traffic for place in places), self._gone)
        self._places = [place for place in self._places if place not in places]

    def _order(self, config: Config) -> Order:
        return Order(self._listener.fileno(), config.tree.absolute(), config.registry, config.encodings)


@contextlib.asynccontextmanager
async def running(listener: socket.socket, config: Config) -> AsyncIterator[Workers]:
    """Serve the tree on `listener`, which is closed, while the block runs; this process answers no pull itself.

    Raises what `Workers.reload` raises.
    """
    with listener:
        check(config)
        warn_if_open(config.registry, listener)
        workers = Workers(listener)
        await workers.reload(config)
        try:
            yield workers
        finally:
            await workers.stop()


def check(config: Config) -> None:
    """Raise ConfigError where a file that the registry's settings name cannot be used."""
    settings = config.registry
    if settings.auth is not None and settings.auth.htpasswd is not None:
        Htpasswd(settings.auth.htpasswd)
    if settings.tls is not None:
        make_context(settings.tls)
