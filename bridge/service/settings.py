"""The configuration in force: what a running service takes up of a new one, and what needs a restart."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import msgspec

from bridge.config import Config
from bridge.errors import BridgeError
from bridge.fence import Fence

log = logging.getLogger(__name__)

Follower = Callable[[Config], Awaitable[None]]

_Section = TypeVar("_Section", bound=msgspec.Struct)

TAKEN_UP = frozenset(
    {"publish", "keep", "max_withdraw", "resync", "grace", "encodings.space", "encodings.loopback", "encodings.except_"}
    | {"scrub.every", "scrub.rate"}
    | {"registry.auth", "registry.tls", "registry.workers", "registry.access_log", "registry.idle_exit"}
)
"""What a running service follows. It is built on everything else, of which a change takes a restart."""


class Settings:
    """The configuration in force, `config`, and who follows it when it changes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._followers: list[Follower] = []
        self._changing = asyncio.Lock()
        self._fence = Fence()

    @contextlib.contextmanager
    def followed_by(self, follower: Follower) -> Iterator[None]:
        """Have `follower` called with every new configuration while the block runs.

        It takes it up, or raises BridgeError and goes on as before; who can refuse follows first.
        """
        self._followers.append(follower)
        try:
            yield
        finally:
            self._followers.remove(follower)

    async def settled(self) -> None:
        """Return when no change is under way: what is in force then is what was asked for before."""
        async with self._changing:
            return

    async def change(self, new: Config) -> None:
        """Take up `new`, as far as that can be done at run time, and warn of what needs a restart.

        Raises BridgeError where it is refused; then the one before is in force, whole.
        """
        async with self._changing:
            await self._change(new)

    async def _change(self, new: Config) -> None:
        before = self.config
        for key in _keys(new):
            if key not in TAKEN_UP and _get(new, key) != _get(before, key):
                log.warning("this takes a restart of podbridge, and is as before until then key=%s", key)
                new = _with(new, key, _get(before, key))
        self.config = new
        try:
            for follower in tuple(self._followers):
                with self._fence.around("a new configuration"):
                    await follower(new)
        except (BridgeError, OSError):
            self.config = before
            raise


def _keys(section: msgspec.Struct) -> Iterator[str]:
    """Yield the dotted keys: those within a section that is always there, or the section that may be left out."""
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, msgspec.Struct) and isinstance(_default(section, name), msgspec.Struct):
            yield from (f"{name}.{key}" for key in _keys(value))
        else:
            yield name


def _default(section: msgspec.Struct, name: str) -> object:
    return next(field.default for field in msgspec.structs.fields(section) if field.name == name)


def _get(section: msgspec.Struct, key: str) -> object:
    first, _, rest = key.partition(".")
    value = getattr(section, first)
    return _get(value, rest) if rest else value


def _with(section: _Section, key: str, value: object) -> _Section:
    first, _, rest = key.partition(".")
    return msgspec.structs.replace(section, **{first: _with(getattr(section, first), rest, value) if rest else value})
