"""Clients that get blobs as they are, whatever they accept: they cannot put the parts of an encoding together. Pure.

docs/decisions/0032-who-gets-the-identity.md says how they were found.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

_LONGEST = 256
"""Characters of a User-Agent that are looked at."""

SPLITTING = (
    # containerd 2.1.0-rc.0 and later, up to 2.4.0-beta.0 at least (core/remotes/docker/fetcher.go, `open`). With
    # concurrent_layer_fetch_buffer it cuts the length of the first answer into chunks, asks for all but the first with
    # Range and the same Accept-Encoding, joins them, and decodes what comes out by the Content-Encoding of the first.
    # Versions are `2.1.3+unknown`, `v2.1.5-k3s1`, `2.1.4+bottlerocket`, `2.2.0~rc1-1ubuntu1` and the like.
    r"(?i)(?<![^\s(,;])containerd/v?(?:2\.(?:[1-9]|0+[1-9])|(?:[3-9]|[1-9]\d)\.)",
)
"""Regular expressions that are found in the User-Agent of such clients, each with its reason and its source."""


def takes_identity_only(user_agents: Sequence[str], others: tuple[str, ...]) -> bool:
    """Return True if a client names itself as one of `SPLITTING` or of `others`, regular expressions too."""
    return bool(user_agents) and _is_named(", ".join(user_agents)[:_LONGEST], others)


@lru_cache(maxsize=512)
def _is_named(user_agent: str, others: tuple[str, ...]) -> bool:
    return any(re.search(pattern, user_agent) for pattern in (*SPLITTING, *others))
