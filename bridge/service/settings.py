"""The configuration in force: what a running service takes up of a new one, and what needs a restart."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import msgspec

from bridge.config import Config
from bridge.errors import ConfigError

log = logging.getLogger(__name__)

Follower = Callable[[Config], Awaitable[None]]

_Section = TypeVar("_Section", bound=msgspec.Struct)

FIXED = ("tree", "podman.socket", "podman.command", "registry.listen", "control.socket")
"""What a running service is built on: a change of it takes a restart. Everything else is taken up."""


class Settings:
    """The configuration in force, `config`, and who follows it when it changes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._followers: list[Follower] = []

    @contextlib.contextmanager
    def followed_by(self, follower: Follower) -> Iterator[None]:
        """Have `follower` called with every new configuration while the block runs.

        It takes it up, or raises ConfigError and goes on with the one before; who can refuse follows first.
        """
        self._followers.append(follower)
        try:
            yield
        finally:
            self._followers.remove(follower)

    async def change(self, new: Config) -> None:
        """Take up `new`, as far as that can be done at run time, and warn of what needs a restart.

        Raises ConfigError where it is refused; then the one before is in force, whole.
        """
        for key in FIXED:
            if _get(new, key) != _get(self.config, key):
                log.warning("a change that needs a restart of podbridge is not taken up key=%s", key)
                new = _with(new, key, _get(self.config, key))
        before, self.config = self.config, new
        try:
            for follower in tuple(self._followers):
                await follower(new)
        except ConfigError:
            self.config = before
            raise


def _get(section: msgspec.Struct, key: str) -> object:
    first, _, rest = key.partition(".")
    value = getattr(section, first)
    return _get(value, rest) if rest else value


def _with(section: _Section, key: str, value: object) -> _Section:
    first, _, rest = key.partition(".")
    return msgspec.structs.replace(section, **{first: _with(getattr(section, first), rest, value) if rest else value})
