"""What each profile lets through to podman. Pure, and closed: what stands in no table needs `full`.

`read` shows what there is, and images with their content. It shows nothing of what runs in containers, and has
nothing that makes podman call another host: `/images/search`, and `/manifests/{name}/json`, which asks the
registry where the list is not local. docs/decisions/0023-profiles.md says why each line is where it is.
"""

import re
from collections.abc import Iterable

from bridge.config import Profile
from bridge.relay.calls import Call, name_in

_READ = (
    "/_ping",
    "/version",
    "/info",
    "/events",
    "/system/df",
    "/images/json",
    "/images/get",
    "/images/export",
    "/images/{name}/json",
    "/images/{name}/history",
    "/images/{name}/tree",
    "/images/{name}/resolve",
    "/images/{name}/exists",
    "/images/{name}/get",
    "/manifests/{name}/exists",
    "/containers/json",
    "/containers/{name}/exists",
    "/pods/json",
    "/pods/{name}/exists",
    "/volumes/{name}/exists",
    "/networks",
    "/networks/json",
    "/networks/{name}/exists",
)
"""Paths that a GET may ask for."""

_TAG = ("/images/{name}/tag", "/images/{name}/untag")
"""Paths that a POST may ask for with `publish`."""


def _patterns(paths: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(re.escape(path).replace(r"\{name\}", "(.+)")) for path in paths)


_READS, _TAGS = _patterns(_READ), _patterns(_TAG)


def required(call: Call) -> Profile:
    """Return the least profile that lets a call through to podman."""
    if call.method == "GET" and _fits(_READS, call.path):
        return Profile.READ
    if call.method == "HEAD" and call.path == "/_ping":
        return Profile.READ
    if call.method == "POST" and _fits(_TAGS, call.path):
        return Profile.PUBLISH
    return Profile.FULL


def _fits(patterns: Iterable[re.Pattern[str]], path: str) -> bool:
    matches = (pattern.fullmatch(path) for pattern in patterns)
    return any(match is not None and all(map(name_in, match.groups())) for match in matches)


def covers(granted: Profile, needed: Profile) -> bool:
    """Say whether a profile includes another."""
    order = tuple(Profile)
    return order.index(granted) >= order.index(needed)


def refusal(call: Call, granted: Profile, needed: Profile) -> tuple[str, str]:
    """Return cause and message of the answer to what a profile does not let through."""
    message = (
        f"{call.method} {call.path} is not in this socket's profile `{granted}`: "
        f"the operator of podbridge can allow it with `api: {{profile: {needed}}}`"
    )
    return f"profile {granted}", message
