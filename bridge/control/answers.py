"""How the control API answers: JSON documents, and every error in one shape."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import HttpVersion11, web

from bridge.control.schema import Problem
from bridge.errors import (
    BridgeError,
    BusyError,
    ControlError,
    ForgottenError,
    ImageUnknownError,
    InvalidError,
    NotPublishedError,
    NotReadyError,
    UnreachableError,
)

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (ImageUnknownError, 404),
    (NotPublishedError, 404),
    (InvalidError, 400),
    (UnreachableError, 503),
    (NotReadyError, 503),
    (BusyError, 503),
    (ForgottenError, 410),
    (ControlError, 409),
    (BridgeError, 500),
    (OSError, 500),
)
"""The first that fits decides."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json(value: object, status: int = 200) -> web.Response:
    """Return a document as an answer. Its type is exactly `application/json`: docker's client wants it so."""
    return web.Response(body=msgspec.json.encode(value), status=status, headers={"Content-Type": "application/json"})


def refused(status: int, phrase: str, message: str) -> web.Response:
    """Return the answer to what reaches no handler; `phrase` is the status in words."""
    return json(Problem(phrase, message, status, phrase.title().replace(" ", "")), status)


async def expected(request: web.Request) -> web.Response | None:
    """Have a client that waits for that send its body, and refuse other expectations (RFC 9110, 10.1.1)."""
    if request.version < HttpVersion11:
        return None  # HTTP/1.0 knows no expectations
    if request.headers["Expect"].lower() != "100-continue":
        return refused(417, "expectation failed", "Expect: only 100-continue is known")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
    return None


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a `Problem`, those of the router too."""
    try:
        return await handler(request)
    except ConnectionError:
        raise  # nobody is there to read an answer
    except web.HTTPException as error:
        answer = refused(error.status, error.reason, f"{request.method} {request.path}: {error.reason}")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except tuple(kind for kind, _ in _STATUS) as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        reason = type(error).__name__.removesuffix("Error")
        answer = json(Problem(reason, str(error), status, reason), status)
        if status == 503:
            answer.headers["Retry-After"] = "1"
        return answer
