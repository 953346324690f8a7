"""The API version that clients are told: podman's own, or the configured floor where that is higher."""

import re

import msgspec

from bridge.errors import InvalidError
from bridge.relay.bodies import Endless
from bridge.relay.exchange import take
from bridge.relay.heads import Answer
from bridge.relay.passage import Passage, as_it_is
from bridge.untrusted_json import decode

_LONGEST = 64 * 1024
"""Bytes of the longest answer that is changed."""

_HEADER = re.compile(rb"(?im)^(api-version:[ \t]*)([0-9.]{1,100})(?=[ \t]*\r\n)")
_VERSION = re.compile("[0-9.]{1,100}", re.ASCII)
_LENGTH = re.compile(rb"(?im)^(?:content-length|transfer-encoding):.*\r\n")


class Floor:
    """Delivers answers that name an API version, with no version below `least` in them."""

    def __init__(self, least: str) -> None:
        self._least = least

    async def __call__(self, passage: Passage, answer: Answer) -> None:
        """Deliver one answer to `/_ping` or `/version`; what ends with the connection is an error without a version."""
        if isinstance(answer.body(passage.method), Endless):
            await as_it_is(passage, answer)
            return
        content = await _whole(passage, answer)
        head = _HEADER.sub(lambda match: match[1] + self._raised(match[2].decode()).encode(), answer.raw)
        if content:
            content = self._changed(content)
            head = _LENGTH.sub(b"", head)[:-2] + b"Content-Length: %d\r\n\r\n" % len(content)
        await passage.client.write(head + content)

    def _raised(self, version: str) -> str:
        return max(version, self._least, key=_numbers)

    def _changed(self, content: bytes) -> bytes:
        try:
            told = decode(content, "podman's answer", dict[str, object])
        except InvalidError:
            return content  # `OK`
        if isinstance(version := told.get("ApiVersion"), str) and _VERSION.fullmatch(version):
            told["ApiVersion"] = self._raised(version)
        return msgspec.json.encode(told)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part or 0) for part in version.split("."))


async def _whole(passage: Passage, answer: Answer) -> bytes:
    body = answer.body(passage.method)
    content = b""
    while not body.done:
        content += body.content(await take(passage.podman, body))
        if len(content) > _LONGEST:
            msg = f"podman's answer is longer than {_LONGEST} bytes"
            raise InvalidError(msg)
    return content
