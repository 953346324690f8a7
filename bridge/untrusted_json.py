"""Decoding JSON that was written elsewhere: podman's answers, manifests, configs, requests.

Every such text goes through `decode`, which is the one place that knows how a text can be wrong: no JSON, no
UTF-8, nested too deep, a number beyond all types, another shape, too many bytes. Each is an InvalidError.
"""

import re
from typing import Any, TypeVar, overload

import msgspec

from bridge.errors import InvalidError

T = TypeVar("T")

MAX_DEPTH = 128
"""Levels of arrays and objects. The decoder itself gives up at about 1,000 less the depth of the caller's stack, so
a text near that limit would be read at one call and not at another."""

MAX_DOCUMENT = 4 * 1024 * 1024
"""Bytes of a manifest, an index or a config: what distribution-spec v1.1.1 asks registries to take as a manifest.
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests"""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


@overload
def decode(content: bytes, what: str, *, limit: int = MAX_DOCUMENT) -> Any: ...
@overload
def decode(content: bytes, what: str, kind: type[T], *, limit: int = MAX_DOCUMENT) -> T: ...
def decode(content: bytes, what: str, kind: Any = Any, *, limit: int = MAX_DOCUMENT) -> Any:
    """Return the value of a JSON text as `kind`; `what` names the text in an error, such as `"podman's /info"`.

    Raises InvalidError, and nothing else, for every text that is not a `kind`, that has more than `limit` bytes or
    more than MAX_DEPTH levels, or that is not UTF-8 throughout, also in fields that `kind` does not have.
    """
    if len(content) > limit:
        msg = f"{what} is too long: {len(content)} bytes, at most {limit} are read"
        raise InvalidError(msg)
    if _is_deep(content):
        msg = f"{what} is nested too deep: at most {MAX_DEPTH} levels are read"
        raise InvalidError(msg)
    try:
        content.decode()
        return msgspec.json.decode(content, type=kind)
    except UnicodeDecodeError as error:
        msg = f"{what} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}"
        raise InvalidError(msg) from error
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        msg = f"{what} is not as expected: {error}"
        raise InvalidError(msg) from error


def _is_deep(content: bytes) -> bool:
    """Return True if arrays and objects are nested more than MAX_DEPTH levels."""
    # a text with few brackets costs two counts, not a scan
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", content)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False
