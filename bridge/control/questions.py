"""What a request asks, read from its query and its body. A wrong word is refused, never ignored."""

import asyncio
from typing import TypeVar

import msgspec
from aiohttp import web

from bridge.control.schema import PublishRequest
from bridge.errors import InvalidError
from bridge.untrusted_json import decode

LINES = "application/x-ndjson"
"""The media type of one JSON document a line."""

_WAY_OUT = "/bridge/v1/openapi.json says what can be asked"

BODY_WITHIN = 10.0
"""Seconds that a body has to come in. aiohttp tells no handler of a chunked body that breaks on the way."""


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No question at all."""


class Waiting(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the answer waits until it is done."""

    wait: bool = True


class Withdrawal(msgspec.Struct, forbid_unknown_fields=True):
    """With `hold` the reference stays out until it is published by hand."""

    hold: bool = False


class ImageNamed(msgspec.Struct, forbid_unknown_fields=True):
    """An image by a podman name, or by its ID or the beginning of it."""

    image: str


class Look(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """With `dryRun` it is only told what would be done; `prune` lets a mass withdrawal through."""

    dry_run: bool = False
    prune: bool = False


class Sweep(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """With `dryRun` it is only told what would be removed."""

    dry_run: bool = False


_Question = TypeVar("_Question", bound=msgspec.Struct)


def query(request: web.Request, kind: type[_Question]) -> _Question:
    """Read the query; raise InvalidError for a word that is unknown, missing, or has a wrong value."""
    asked = request.query
    values = {key: asked.getall(key) if key == "state" else asked[key] for key in asked}
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        msg = f"query: {error}; {_WAY_OUT}"
        raise InvalidError(msg) from error


async def publish_request(request: web.Request) -> PublishRequest:
    """Read what is to be published; raise InvalidError where the body does not say so, or does not come."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            content = await request.read()
        return decode(content, "body", PublishRequest)
    except TimeoutError as error:
        msg = f"body: it did not come whole within {BODY_WITHIN:g} seconds"
        raise InvalidError(msg) from error
    except InvalidError as error:
        msg = f"{error}; {_WAY_OUT}"
        raise InvalidError(msg) from error
    except web.RequestPayloadError as error:
        msg = f"body: {error}; {_WAY_OUT}"
        raise InvalidError(msg) from error


def wants_lines(request: web.Request) -> bool:
    """Say whether the answer is to be one JSON document a line, as it happens."""
    kinds = (text.partition(";")[0].strip() for text in request.headers.get("Accept", "").split(","))
    return LINES in kinds
