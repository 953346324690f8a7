"""The api socket: the relay, joined with the registry, the tree and whoever publishes."""

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator

from bridge.config import AuthConfig, Config, Profile
from bridge.descriptors import shares
from bridge.errors import ControlError
from bridge.limits import Limits
from bridge.registry.errors import RegistryError
from bridge.registry.htpasswd import Htpasswd
from bridge.registry.passwords import Attempt, Passwords, checking
from bridge.relay import server as relay
from bridge.relay.desk import Desk, Login
from bridge.service.steering import Steering
from bridge.tree.reader import TreeReader

log = logging.getLogger(__name__)

_PEER = "api"
"""What the log calls a client of the socket, which has no address."""


@contextlib.asynccontextmanager
async def serving(config: Config, steering: Steering, listener: socket.socket) -> AsyncIterator[None]:
    """Serve podman's and docker's API on `listener` while the block runs; the configuration has a section for it."""
    if config.api is None:
        raise AssertionError
    if config.api.profile is Profile.FULL:
        log.warning(
            "the api socket gives everything that podman can do, which is root where podman runs as root socket=%s",
            config.api.socket,
        )
    parts = steering.reconciler.parts
    with _login(config.registry.auth) as login:
        desk = Desk(
            publisher=steering,
            tree=TreeReader(parts.tree.paths.root),
            changes=parts.changes,
            registry=steering.facts.registry,
            own=parts.policy.own,
            login=login,
        )
        steering.facts.sockets["api"] = listener.getsockname()
        limits = Limits(connections=shares().api)
        async with relay.serving(relay.Relay(parts.podman.socket, config.api, desk, limits), listener):
            yield


@contextlib.contextmanager
def _login(auth: AuthConfig | None) -> Iterator[Login | None]:
    if auth is None or auth.htpasswd is None:
        yield None
        return
    with checking(Htpasswd(auth.htpasswd), workers=1) as passwords:
        yield lambda user, password: _fits(passwords, user, password)


async def _fits(passwords: Passwords, user: str, password: bytes) -> bool:
    try:
        return await passwords.fits(Attempt(_PEER, user, password))
    except RegistryError as error:
        msg = "too many log-ins wait to be checked; try again in a second"
        raise ControlError(msg) from error
