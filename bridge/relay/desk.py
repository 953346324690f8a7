"""What the api socket answers for itself: pushes to the registry, its descriptions, and log-ins to it."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from bridge.changes import Changes
from bridge.config import Profile
from bridge.errors import InvalidError, NotPublishedError
from bridge.relay.calls import Call, name_in
from bridge.relay.distribution import describe
from bridge.relay.events import Merged, read_filters
from bridge.relay.exchange import Exchange
from bridge.relay.passage import Deliver, as_it_is
from bridge.relay.profiles import covers, refusal
from bridge.relay.pushes import Publisher, Push, publish
from bridge.tree.reader import TreeReader
from bridge.untrusted_json import decode

_PUSH = re.compile("/images/(.+)/push")
_LIST = re.compile("/manifests/(.+)/registry/(.+)")
_OLDER_LIST = re.compile("/manifests/(.+)/push")
_DISTRIBUTION = re.compile("/distribution/(.+)/json")

Login = Callable[[str, bytes], Awaitable[bool]]
"""Says whether this is the user's password. Raises BridgeError where it cannot be said now."""


class _Credentials(msgspec.Struct):
    """What docker's client asks to be checked."""

    username: str = ""
    password: str = ""
    serveraddress: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """Answers what concerns the registry. `own` are its addresses, `registry` is the one that events name.

    Without `login` the registry lets everybody in.
    """

    publisher: Publisher
    tree: TreeReader
    changes: Changes
    registry: str
    own: frozenset[str]
    login: Login | None = None

    async def answer(self, exchange: Exchange, profile: Profile) -> bool:
        """Answer a request that is podbridge's own; return False for any other, of which nothing is lost."""
        call = exchange.call
        push = push_of(call)
        if push is not None and push.host in self.own:
            if covers(profile, Profile.PUBLISH):
                await publish(exchange, self.publisher, push)
            else:
                await exchange.refuse(403, *refusal(call, profile, Profile.PUBLISH))
            return True
        if push is not None and profile is Profile.PUBLISH:
            cause, message = refusal(call, profile, Profile.FULL)
            await exchange.refuse(403, cause, f"{message}; what is pushed to {self.registry}/NAME:TAG is published")
            return True
        name = _name(_DISTRIBUTION, call.path)
        if call.method == "GET" and not call.libpod and name is not None and name.partition("/")[0] in self.own:
            await self._describe(exchange, name.partition("/")[2])
            return True
        if call.method == "POST" and call.path == "/auth" and not call.libpod:
            return await self._log_in(exchange)
        return False

    def merged(self, call: Call) -> Deliver:
        """Return what delivers podman's events with the publications among them."""
        filters = read_filters(call.query.get("filters"))
        return as_it_is if filters is None else Merged(self.changes, self.registry, filters)

    async def _describe(self, exchange: Exchange, name: str) -> None:
        try:
            content = describe(self.tree, name)
        except InvalidError as error:
            await exchange.refuse(400, "invalid reference format", str(error))
        except NotPublishedError as error:
            await exchange.refuse(404, "not published", str(error))
        else:
            await exchange.reply(200, content)

    async def _log_in(self, exchange: Exchange) -> bool:
        content, raw = await exchange.read()
        try:
            asked = decode(content, "body", _Credentials)
        except InvalidError as error:
            await exchange.refuse(400, "invalid JSON", str(error))
            return True
        host = re.sub(r"^https?://", "", asked.serveraddress).partition("/")[0]
        if host not in self.own:
            exchange.put_back(raw)
            return False
        if self.login is None or await self.login(asked.username, asked.password.encode()):
            await exchange.reply(200, msgspec.json.encode({"IdentityToken": "", "Status": "Login Succeeded"}) + b"\n")
        else:
            message = f"login attempt to {host} failed with status: 401 Unauthorized"
            await exchange.refuse(401, "wrong user or password", message)
        return True


def push_of(call: Call) -> Push | None:
    """Return the push that a call asks for, wherever it goes; None for any other call."""
    if call.method != "POST":
        return None
    destination = call.query.get("destination")
    if call.libpod and (match := _LIST.fullmatch(call.path)):
        name, place = map(name_in, match.groups())
        return Push(name, place, is_list=True) if name and place else None
    if call.libpod and (name := _name(_OLDER_LIST, call.path)):
        return Push(name, destination or name, is_list=True)
    name = _name(_PUSH, call.path)
    if name is None:
        return None
    tag = "" if call.libpod else call.query.get("tag", "")
    image = f"{name}:{tag}" if tag else name
    return Push(image, destination or image)


def _name(pattern: re.Pattern[str], path: str) -> str | None:
    match = pattern.fullmatch(path)
    return None if match is None else name_in(match[1])
