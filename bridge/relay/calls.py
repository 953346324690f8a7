"""What a request asks for: its path without version and tricks, its query, and the name that it speaks of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote

_PREFIX = re.compile(r"(?:/v(?P<version>\d{1,4}(?:\.\d{1,4}){0,2}))?(?P<libpod>/libpod)?(?P<path>/.*)")
_FOLLOWING = re.compile(r"/events|/containers/.+/(?:attach|attach/ws|stats|wait)|/(?:containers|pods)/stats")
_LOGS = re.compile(r"/containers/.+/logs")
_LASTING = re.compile(
    r"/build|/commit|/auth|/system/df|/images/(?:create|pull|load|import|get|export|search)|/images/.+/(?:push|get)"
    r"|/manifests/.+/(?:push|registry/.+)|/exec/.+/start|/containers/.+/(?:archive|export|exec|checkpoint|restore)"
)
_IPV6 = r"(?:\[[0-9A-Fa-f:.]+\](?::[0-9]+)?/)?"  # the host of a name
_NAME = re.compile(rf"{_IPV6}[A-Za-z0-9_+][A-Za-z0-9._:@+-]*(?:/[A-Za-z0-9_+][A-Za-z0-9._:@+-]*)*")


@dataclass(frozen=True, slots=True)
class Call:
    """One request as podman's router reads it. `path` is still percent-encoded; double slashes count as one."""

    method: str
    path: str
    libpod: bool = False
    version: tuple[int, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, method: str, target: str) -> Self:
        """Read a request's method and target."""
        place, _, query = target.partition("?")
        match = _PREFIX.fullmatch(re.sub("/{2,}", "/", place))
        if match is None:
            return cls(method, place)
        version = tuple(int(part) for part in (match["version"] or "").split(".") if part)
        # Go's url.Values.Get takes the first of several.
        values = {key: value[0] for key, value in parse_qs(query, keep_blank_values=True).items()}
        return cls(method, match["path"], match["libpod"] is not None, version, values)

    def flag(self, name: str, *, default: bool) -> bool:
        """Read a boolean of the query as podman does."""
        return self.query.get(name, str(default)).lower() in ("1", "t", "true", "on", "yes")

    @property
    def follows(self) -> bool:
        """Whether its answer goes on until something else ends: a container, or whoever watches."""
        if _LOGS.fullmatch(self.path):
            return self.flag("follow", default=False)
        return _FOLLOWING.fullmatch(self.path) is not None

    @property
    def lasts(self) -> bool:
        """Return True if its answer may take long, or goes on until something else ends."""
        return self.follows or _LASTING.fullmatch(self.path) is not None


def name_in(encoded: str) -> str | None:
    """Return the name that a part of a path spells; None for what no image, container or network is called.

    No name has an empty part or one that begins with a dot: nothing here can mean another path.
    """
    name = unquote(encoded)
    return name if _NAME.fullmatch(name) else None
