"""Documents as hostile as they come: valid ones that are broken in one to three places, and their bytes once more."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

Value = Any

HOSTILE: st.SearchStrategy[Value] = st.one_of(
    st.sampled_from(
        [
            None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 0.5, -0.0, "", "x", "\0", "\x1b[2J",
            "a\nb", "\u202e", "../../etc", "/", "sha256:" + "0" * 64, "sha256:" + "g" * 64, "9" * 30, [], {}, [[]],
            [None], {"": {}}, {"x": [1]},
        ]
    ),
    st.text(max_size=20),
    st.integers(),
)  # fmt: skip
"""What may stand in place of any value."""

_DEEP = 2000


@st.composite
def documents(draw: st.DrawFn, valid: Value) -> bytes:
    """Return the bytes of a document that began as `valid`."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(0, 3))):
        value = _broken(draw, value)
    return draw(st.sampled_from(_BREAKS))(draw, json.dumps(value).encode())


def _broken(draw: st.DrawFn, value: Value) -> Value:
    """Break one place of a value, chosen on the way down."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(st.integers(0, 5)):
            case 0:
                value.pop(key)
            case 1:
                value[draw(st.text(max_size=8))] = copy.deepcopy(draw(HOSTILE))
            case 2:
                value[key.upper()] = value[key]
            case _:
                value[key] = _broken(draw, value[key])
        return value
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                value.pop(place)
            case 1:
                value.append(value[place])
            case _:
                value[place] = _broken(draw, value[place])
        return value
    return copy.deepcopy(draw(HOSTILE))


def _whole(_: st.DrawFn, content: bytes) -> bytes:
    return content


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    return content[: draw(st.integers(0, len(content)))]


def _no_text(draw: st.DrawFn, content: bytes) -> bytes:
    return _inserted(
        draw, content, draw(st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b"\\ud800", b"\\"]))
    )


def _deep(draw: st.DrawFn, content: bytes) -> bytes:
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"x":', b"}")]))
    return _more(content, opening * _DEEP + b"1" + closing * _DEEP)


def _long_number(draw: st.DrawFn, content: bytes) -> bytes:
    return _more(content, draw(st.sampled_from([b"9" * 5000, b"9" * 4000, b"1e999", b"-1e-999", b"0." + b"1" * 5000])))


def _twice(draw: st.DrawFn, content: bytes) -> bytes:
    return content[:-1] + b"," + content[1:] if content[:1] == b"{" and len(content) > 2 else content + content


def _bytes(draw: st.DrawFn, _: bytes) -> bytes:
    return draw(st.binary(max_size=200))


def _inserted(draw: st.DrawFn, content: bytes, more: bytes) -> bytes:
    place = draw(st.integers(0, len(content)))
    return content[:place] + more + content[place:]


def _more(content: bytes, value: bytes) -> bytes:
    """Add an unknown key to an object; or be that value."""
    return content[:-1] + b',"x":' + value + b"}" if content[:1] == b"{" and len(content) > 2 else value


_BREAKS = [_whole, _whole, _whole, _whole, _cut, _no_text, _deep, _long_number, _twice, _bytes]
