"""Lists that come in pages: `n`, `last` and the `Link` to what follows. Pure.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags
"""

from bisect import bisect_right
from collections.abc import Iterable
from urllib.parse import urlencode

from bridge.registry.request import Slice


def lexical(name: str) -> tuple[str, str]:
    """Return what sorts names as the specification wants it: by letters, whatever their case."""
    return name.lower(), name


def page(names: Iterable[str], part: Slice) -> tuple[list[str], bool]:
    """Return the wanted part of the names, in lexical order, and whether more follow it.

    `last` need not be among the names: a tag that was withdrawn between two pages loses nothing.
    """
    ordered = sorted(names, key=lexical)
    first = bisect_right(ordered, lexical(part.last), key=lexical) if part.last else 0
    stop = len(ordered) if part.n is None else first + part.n
    return ordered[first:stop], stop < len(ordered)


def link(path: str, part: Slice, names: list[str], namespace: str = "") -> dict[str, str]:
    """Return the header that leads to the page after `names`; none where a page holds nothing."""
    if not names:
        return {}
    query = {"n": str(part.n), "last": names[-1]} | ({"ns": namespace} if namespace else {})
    return {"Link": f'<{path}?{urlencode(query)}>; rel="next"'}
