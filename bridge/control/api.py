"""What the control API answers to each request. It knows HTTP and JSON; what is asked is done by a `Steering`."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from urllib.parse import urlencode

from aiohttp import web

from bridge.control import answers, openapi, questions, streams
from bridge.control.feed import Feed
from bridge.control.schema import Explanation, PlanView, PublicationList, PublicationView, Status, SweptView
from bridge.control.selection import Selection
from bridge.oci import Reference
from bridge.places import Places, user_of
from bridge.progress import Event, Shown

PREFIX = openapi.PREFIX
_LONGEST_BODY = 64 * 1024
"""Bytes; what can be asked for takes a few hundred."""

_probe = partial(web.get, expect_handler=answers.expected)  # HEAD too: some load balancers ask so
_get = partial(_probe, allow_head=False)
_post = partial(web.post, expect_handler=answers.expected)
_delete = partial(web.delete, expect_handler=answers.expected)


class Steering(Protocol):
    """What the control API lets its callers see and do."""

    def status(self) -> Status:
        """Say how the service is."""

    def require_ready(self) -> None:
        """Raise NotReadyError, which says why, until the first pass is through."""

    def publications(self) -> list[PublicationView]:
        """List every reference that is published or should be, or was until just now."""

    def publication(self, reference: Reference) -> PublicationView:
        """Show one reference; raise NotPublishedError where nothing is known of it."""

    def publishing(self, image: str, reference: Reference | None, *, force: bool = False) -> AsyncGenerator[Event]:
        """Publish an image now, and tell how far it is."""

    async def begin(self, image: str, reference: Reference | None, *, force: bool) -> list[PublicationView]:
        """Begin to publish an image."""

    async def preview(self, image: str, reference: Reference | None, *, force: bool) -> list[PublicationView]:
        """Say what would be published."""

    async def withdraw(self, reference: Reference, *, hold: bool) -> None:
        """Take a publication out of the tree."""

    async def resync(self, *, prune: bool) -> Status:
        """Look at everything now, also at what failed; `prune` lets a mass withdrawal through."""

    async def plan(self, *, prune: bool) -> PlanView:
        """Say what a look would do."""

    async def sweep(self, *, dry_run: bool) -> SweptView:
        """Sweep the tree."""

    async def explain(self, image: str) -> Explanation:
        """Say why an image is or is not published."""


class Metrics(Protocol):
    """What a Prometheus server reads."""

    async def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from."""

    steering: Steering
    feed: Feed
    metrics: Metrics


class Probes:
    """Answers whoever watches the service: `/healthz`, `/readyz`, `/metrics`."""

    def __init__(self, sources: Sources) -> None:
        self._steering = sources.steering
        self._metrics = sources.metrics

    def routes(self, prefix: str = "") -> list[web.RouteDef]:
        """Return the routes below a prefix."""
        answering = {"healthz": self._healthz, "readyz": self._readyz, "metrics": self._text}
        return [_probe(f"{prefix}/{name}", handler) for name, handler in answering.items()]

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        self._steering.require_ready()
        return web.Response(text="ready\n")

    async def _text(self, _: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=await self._metrics.text(), headers={"Content-Type": kind})


class Control:
    """Answers the requests of the control API."""

    def __init__(self, sources: Sources, connections: int) -> None:
        self._streams = Places(connections // 2, "streams")
        self._commands = Places(connections // 4, "commands")
        self._steering = sources.steering
        self._feed = sources.feed
        self._probes = Probes(sources)

    def application(self) -> web.Application:
        """Return the application with all routes."""
        application = web.Application(middlewares=[answers.errors], client_max_size=_LONGEST_BODY)
        reading = {
            "/status": self._status,
            "/publications": self._publications,
            "/publications/{reference:.+}": self._publication,
            "/explain": _placed(self._commands, self._explain),
            "/events": _placed(self._streams, self._events),
            "/openapi.json": self._openapi,
        }
        application.add_routes(
            [
                *(_get(PREFIX + path, handler) for path, handler in reading.items()),
                _post(f"{PREFIX}/publications", _placed(self._commands, self._publish)),
                _delete(f"{PREFIX}/publications/{{reference:.+}}", self._withdraw),
                _post(f"{PREFIX}/resync", _placed(self._commands, self._resync)),
                _post(f"{PREFIX}/gc", _placed(self._commands, self._sweep)),
                *self._probes.routes(),
                *self._probes.routes(PREFIX),
            ]
        )
        application.on_shutdown.append(self._end)
        return application

    async def _status(self, request: web.Request) -> web.Response:
        questions.query(request, questions.Nothing)
        return answers.json(self._steering.status())

    async def _publications(self, request: web.Request) -> web.Response:
        asked = questions.query(request, Selection)
        after = Reference.parse(asked.last) if asked.last else None
        found = [
            view
            for view in self._steering.publications()
            if asked.admits(view) and (after is None or Reference.parse(view.reference) > after)
        ]
        answer = answers.json(PublicationList(found[: asked.n]))
        if len(found) > asked.n:
            answer.headers["Link"] = _next(request, asked.n, found[asked.n - 1].reference)
        return answer

    async def _publication(self, request: web.Request) -> web.Response:
        questions.query(request, questions.Nothing)
        return answers.json(self._steering.publication(Reference.parse(request.match_info["reference"])))

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        waiting = questions.query(request, questions.Waiting)
        asked = await questions.publish_request(request)
        reference = None if asked.as_ is None else Reference.parse(asked.as_)
        if asked.dry_run:
            preview = await self._steering.preview(asked.image, reference, force=asked.force)
            return answers.json(PublicationList(preview))
        if not waiting.wait:
            begun = await self._steering.begin(asked.image, reference, force=asked.force)
            return answers.json(PublicationList(begun), status=202)
        steps = self._steering.publishing(asked.image, reference, force=asked.force)
        if questions.wants_lines(request):
            return await streams.progress(request, steps, self._views)
        shown = [step.reference async for step in steps if isinstance(step, Shown)]
        return answers.json(self._views(shown), status=201)

    def _views(self, references: list[Reference]) -> PublicationList:
        return PublicationList([self._steering.publication(reference) for reference in references])

    async def _withdraw(self, request: web.Request) -> web.Response:
        asked = questions.query(request, questions.Withdrawal)
        await self._steering.withdraw(Reference.parse(request.match_info["reference"]), hold=asked.hold)
        return web.Response(status=204)

    async def _explain(self, request: web.Request) -> web.Response:
        return answers.json(await self._steering.explain(questions.query(request, questions.ImageNamed).image))

    async def _resync(self, request: web.Request) -> web.Response:
        asked = questions.query(request, questions.Look)
        if asked.dry_run:
            return answers.json(await self._steering.plan(prune=asked.prune))
        return answers.json(await self._steering.resync(prune=asked.prune))

    async def _sweep(self, request: web.Request) -> web.Response:
        return answers.json(await self._steering.sweep(dry_run=questions.query(request, questions.Sweep).dry_run))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        questions.query(request, questions.Nothing)
        return await streams.changes(request, self._feed)

    async def _openapi(self, request: web.Request) -> web.Response:
        questions.query(request, questions.Nothing)
        return answers.json(openapi.document())

    async def _end(self, _: web.Application) -> None:
        self._feed.end()


def _placed(places: Places, handler: answers.Handler) -> answers.Handler:
    """Return a handler that takes long, or has no end, and has a place for as long."""

    async def placed(request: web.Request) -> web.StreamResponse:
        connection = request.get_extra_info("socket")
        if connection is None:
            msg = "the client has left"
            raise ConnectionAbortedError(msg)
        with places.taken(user_of(connection)):
            return await handler(request)

    return placed


def _next(request: web.Request, count: int, last: str) -> str:
    words = [(key, value) for key, value in request.query.items() if key not in ("n", "last")]
    return f'<{request.path}?{urlencode([*words, ("n", count), ("last", last)])}>; rel="next"'
