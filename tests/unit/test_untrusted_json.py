"""JSON from elsewhere is decoded to a value of the asked type, or is an InvalidError in words: nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidError
from bridge.untrusted_json import MAX_DEPTH, decode


class _Few(msgspec.Struct):
    name: str = ""


WRONG = {
    "deep": (b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}", "nested too deep"),
    "deep objects": (b'{"x":' * 300 + b"1" + b"}" * 300, "nested too deep"),
    "no utf-8": (b'{"x":"\xff\xfe"}', "not UTF-8: byte 0xff at 6"),
    "no utf-8 in a key": (b'{"\xff":1}', "not UTF-8"),
    "half a surrogate": (b'{"name":"\\ud800"}', "not as expected"),
    "5,000 digits": (b'{"name":' + b"9" * 5000 + b"}", "not as expected"),
    "no json": (b"<html>", "not as expected"),
    "nothing": (b"", "not as expected"),
    "another shape": (b"[1]", "not as expected"),
    "too long": (b'{"x":"' + b"x" * 200 + b'"}', "too long"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", [dict[str, str], _Few])
def test_what_is_wrong_is_said_in_words(wrong: str, kind: type[Any]) -> None:
    """Each kind of fault has one error, also in fields that the type does not have."""
    content, words = WRONG[wrong]
    with pytest.raises(InvalidError, match="podman's /info.*" + words):
        decode(content, "podman's /info", kind, limit=100_000 if wrong != "too long" else 100)


def test_brackets_in_strings_are_no_levels() -> None:
    """What looks like nesting in a string is text, escaped quotes or not."""
    value = {"x": '[{"\\' * 1000, "[" * 1000: [[]] * MAX_DEPTH}
    assert decode(json.dumps(value).encode(), "it") == value


def test_the_depth_that_is_read_does_not_depend_on_the_caller() -> None:
    """A text of the greatest depth is read from a deep stack too."""
    content = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH

    def deep(levels: int) -> Any:
        return decode(content, "it") if levels == 0 else deep(levels - 1)

    assert decode(content, "it") == deep(700)
    with pytest.raises(InvalidError, match="nested too deep"):
        decode(b"[" + content + b"]", "it")


@given(
    st.one_of(st.binary(max_size=300), st.text(alphabet='[]{}":,\\0123456789eE.+-ntfux ', max_size=300).map(str.encode))
)
def test_any_bytes_are_a_value_or_an_invalid_error(content: bytes) -> None:
    """No other exception leaves the decoder."""
    for kind in (dict[str, Any], list[int], _Few, str):
        try:
            decode(content, "it", kind)
        except InvalidError:
            continue
