"""The control API's server. It knows HTTP and JSON; what is asked is done by a `Steering`."""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec
from aiohttp import web

from bridge.control.schema import Explanation, Problem, PublicationView, PublishRequest, Status, SweptView
from bridge.errors import (
    BridgeError,
    ControlError,
    ImageUnknownError,
    InvalidError,
    NotPublishedError,
    UnreachableError,
)
from bridge.oci import Reference

PREFIX = "/bridge/v1"

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (ImageUnknownError, 404),
    (NotPublishedError, 404),
    (InvalidError, 400),
    (UnreachableError, 503),
    (ControlError, 409),
    (BridgeError, 500),
    (OSError, 500),
)
"""The first that fits decides."""


class Steering(Protocol):
    """What the control API lets its callers see and do."""

    def status(self) -> Status:
        """Say how the service is."""

    def publications(self) -> list[PublicationView]:
        """List everything that is published, waits, failed or is held."""

    async def publish(self, image: str, reference: Reference | None) -> list[PublicationView]:
        """Publish an image now, and wait for it."""

    async def withdraw(self, reference: Reference, *, hold: bool) -> None:
        """Take a publication out of the tree."""

    async def resync(self, *, prune: bool) -> Status:
        """Look at everything now, also at what failed; `prune` lets a mass withdrawal through."""

    async def sweep(self, *, dry_run: bool) -> SweptView:
        """Sweep the tree."""

    async def explain(self, image: str) -> Explanation:
        """Say why an image is or is not published."""


class Control:
    """Answers the requests of the control API."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    def application(self) -> web.Application:
        """Return the application with all routes."""
        application = web.Application(middlewares=[_answer_errors])
        application.add_routes(
            [
                web.get(f"{PREFIX}/status", self._status),
                web.get(f"{PREFIX}/publications", self._publications),
                web.post(f"{PREFIX}/publications", self._publish),
                web.delete(f"{PREFIX}/publications/{{reference:.+}}", self._withdraw),
                web.get(f"{PREFIX}/explain", self._explain),
                web.post(f"{PREFIX}/resync", self._resync),
                web.post(f"{PREFIX}/gc", self._sweep),
            ]
        )
        return application

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._steering.status())

    async def _publications(self, _: web.Request) -> web.Response:
        return _json({"publications": self._steering.publications()})

    async def _publish(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=PublishRequest)
        except msgspec.DecodeError as error:
            raise InvalidError(str(error)) from error
        reference = None if asked.as_ is None else Reference.parse(asked.as_)
        return _json({"publications": await self._steering.publish(asked.image, reference)}, status=201)

    async def _withdraw(self, request: web.Request) -> web.Response:
        reference = Reference.parse(request.match_info["reference"])
        await self._steering.withdraw(reference, hold=_flag(request, "hold"))
        return web.Response(status=204)

    async def _explain(self, request: web.Request) -> web.Response:
        return _json(await self._steering.explain(request.query.get("image", "")))

    async def _resync(self, request: web.Request) -> web.Response:
        return _json(await self._steering.resync(prune=_flag(request, "prune")))

    async def _sweep(self, request: web.Request) -> web.Response:
        return _json(await self._steering.sweep(dry_run=_flag(request, "dryRun")))


def _flag(request: web.Request, name: str) -> bool:
    value = request.query.get(name, "false")
    if value not in ("true", "false"):
        msg = f"{name} is true or false, not {value!r}"
        raise InvalidError(msg)
    return value == "true"


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, headers={"Content-Type": "application/json"})


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json(Problem(error.reason, f"{request.method} {request.path}: {error.reason}", error.status, "Http"))
    except tuple(kind for kind, _ in _STATUS) as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        reason = type(error).__name__.removesuffix("Error")
        return _json(Problem(reason, str(error), status, reason), status)


@contextlib.asynccontextmanager
async def serving(steering: Steering, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the control API on `listener` while the block runs."""
    runner = web.AppRunner(Control(steering).application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
