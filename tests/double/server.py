"""The double's service: the libpod endpoints that podbridge uses, on a unix socket."""

import asyncio
import contextlib
import json
import operator
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.double import archives
from tests.double.events import Stream
from tests.double.gates import Gate
from tests.double.store import Double

_TIMES = {"since": operator.gt, "since!": operator.le, "before": operator.lt, "before!": operator.ge}
"""Filters by the time of another image: they read neither of the two."""

VERSION = "4.3.1"


class Service:
    """Answers from one store. `requests.log` gets a line when a request begins and one when it ends."""

    def __init__(self, double: Double) -> None:
        self._double = double
        self._ending = asyncio.Event()

    def application(self) -> web.Application:
        """Return the application with all routes."""
        application = web.Application(middlewares=[self._log, self._lie])
        prefix = "/v4.0.0/libpod"
        application.add_routes(
            [
                web.get(f"{prefix}/version", self._version),
                web.get(f"{prefix}/info", self._info),
                web.get(f"{prefix}/events", self._events),
                web.get(f"{prefix}/images/json", self._listing),
                web.get(f"{prefix}/images/{{id:.+}}/json", self._inspect),
                web.get(f"{prefix}/images/{{id}}/exists", self._exists),
                web.get(f"{prefix}/images/export", self._export),
                web.get(f"{prefix}/manifests/{{id}}/exists", self._list_exists),
            ]
        )
        application.on_shutdown.append(self._end)
        return application

    async def _end(self, _: web.Application) -> None:
        self._ending.set()

    @web.middleware
    async def _log(self, request: web.Request, handler: Any) -> web.StreamResponse:
        path = request.path.removeprefix("/v4.0.0/libpod")
        self._double.note("requests", f"begin {path}")
        try:
            response: web.StreamResponse = await handler(request)
        finally:
            self._double.note("requests", f"end {path}")
        return response

    @web.middleware
    async def _lie(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer a question with the bytes of a fault, where there is one for it: `answer-info` and its like."""
        words = request.path.removeprefix("/v4.0.0/libpod/").split("/")
        question = "listing" if words == ["images", "json"] else "inspect" if words[-1] == "json" else words[-1]
        fault = self._double.faults.take(f"answer-{question}")
        if fault.kind:
            body = fault["body"].encode("latin-1")
            return web.Response(body=body, status=fault["status"], content_type="application/json")
        response: web.StreamResponse = await handler(request)
        return response

    async def _version(self, request: web.Request) -> web.StreamResponse:
        fault = self._double.faults.take("version")
        if fault.kind == "hold":
            await Gate(Path(fault["gate"])).passing()
        if fault.kind == "endless":
            return await _endless(request, fault["begin"].encode(), fault["more"].encode())
        return _json({"Version": VERSION, "Components": []})

    async def _info(self, _: web.Request) -> web.Response:
        graph = str(self._double.root / "graph")
        store = {"graphDriverName": "overlay", "graphRoot": graph, "runRoot": str(self._double.root / "run")}
        return _json({"store": store, "version": {"Version": VERSION}})

    async def _listing(self, request: web.Request) -> web.StreamResponse:
        """Answer what is in the store when the request comes, whatever happens until it is answered."""
        filters = json.loads(request.query.get("filters", "{}"))
        images = [
            image
            for image in self._double.images().values()
            if _passes(image, filters, request.query.get("all") == "true") and self._is_within(image, filters)
        ]
        refused = next((refusal(image) for image in images if "lost" in image), "")
        content = json.dumps([_listed(image) for image in images]).encode()
        fault = self._double.faults.take("listing")
        match fault.kind:
            case "unknown":
                return _problem(500, "image not known", "4e2a: image not known")
            case "fail":
                return _problem(500, "internal error", fault["words"])
            case "answer":
                return web.Response(body=fault["body"].encode(), content_type="text/html")
            case "cut":
                return await _cut(request, content)
            case "endless":
                return await _endless(request, fault["begin"].encode(), fault["more"].encode(), fault["status"])
            case "hold":
                await Gate(Path(fault["gate"])).passing()
        if refused:
            return _problem(500, "file does not exist", refused)
        return web.Response(body=content, content_type="application/json")

    def _is_within(self, image: dict[str, Any], filters: dict[str, list[str]]) -> bool:
        """Return True if an image was made `since` and `before` the images of these IDs, which may be damaged."""
        when = {key: self._double.images()["=".join(filters[key])]["when"] for key in filters if key in _TIMES}
        return all(_TIMES[key](image["when"], other) for key, other in when.items())

    async def _inspect(self, request: web.Request) -> web.StreamResponse:
        fault = self._double.faults.take("inspect")
        if fault.kind == "endless":
            return await _endless(request, fault["begin"].encode(), fault["more"].encode())
        image = None if fault.kind == "unknown" else self._find(request)
        if image is None:
            return _unknown(request)
        if "lost" in image:
            crash = "runtime error: invalid memory address or nil pointer dereference"
            return _problem(500, crash, crash)
        layers = [f"sha256:{name}" for name in image["layers"]]
        fields = ("Id", "Digest", "RepoTags", "Labels", "Size", "ManifestType")
        more = {"RootFS": {"Type": "layers", "Layers": layers}, "Architecture": "amd64", "Os": "linux"}
        more["Annotations"] = _annotations(self._double.blob(image["manifest"]).read_bytes())
        return _json({name: image[name] for name in fields} | more)

    async def _exists(self, request: web.Request) -> web.Response:
        fault = self._double.faults.take("exists")
        if fault.kind == "fail":
            return _problem(500, "internal error", fault["words"])
        unknown = fault.kind == "unknown" or self._find(request) is None
        return _unknown(request) if unknown else web.Response(status=204)

    async def _export(self, request: web.Request) -> web.StreamResponse:
        """Send an image as an archive, whole from the first byte on."""
        name, form = request.query["references"], request.query["format"]
        image = self._double.images().get(name)
        self._double.note("exports", f"{form} {name}")
        if image is None:
            return _problem(400, "image not known", f"{name}: image not known")
        fault = self._double.faults.take("export")
        if fault.kind == "fail":
            return _problem(500, "internal error", fault["words"])
        content = archives.archive(self._double, image, form, fault)
        response = web.StreamResponse(headers={"Content-Type": "application/octet"})
        await response.prepare(request)
        half = len(content) // 2
        await response.write(content[:half])
        if fault.kind == "hold":
            await Gate(Path(fault["gate"])).passing()
        if fault.kind == "cut" and request.transport is not None:
            request.transport.close()
        else:
            await response.write(content[half:])
        return response

    async def _list_exists(self, request: web.Request) -> web.Response:
        if self._find(request) is None:
            return _problem(404, "manifest not found", "manifest not found")
        cause = "image is not a manifest list"
        return _problem(500, cause, f"{request.match_info['id']}: {cause}")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream = Stream(self._double.root / "events.jsonl", self._double.faults.take("events"))
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for line in stream.lines(self._ending):
                await response.write(line)
        if self._ending.is_set() and request.transport is not None:
            request.transport.close()  # without an orderly end of the body, as podman 4.3.1 does
        return response

    def _find(self, request: web.Request) -> dict[str, Any] | None:
        return self._double.find(request.match_info["id"])


def _listed(image: dict[str, Any]) -> dict[str, Any]:
    fields = ("Id", "Digest", "Labels", "Created", "Size")
    names = image["RepoTags"]
    digests = [f"{name.rpartition(':')[0]}@{digest}" for name in names for digest in image["digests"]]
    more = {"RepoTags": names or None, "RepoDigests": digests, "Names": names, "Dangling": not names}
    return {name: image[name] for name in fields} | more


def _passes(image: dict[str, Any], filters: dict[str, list[str]], is_all: bool) -> bool:
    """Return True if a listing with these filters has the image, or fails for it, as that of 4.3.1 does.

    Several values of a filter are joined to one, which no image has. A filter that looks at labels drops an image that
    cannot be read, unless only its config is lost, and so does the one for images without names that are no parents.
    """
    lost = image.get("lost", "")
    if "id!" in filters and image["Id"] == "=".join(filters["id!"]):
        return False
    if "id" in filters and image["Id"] != "=".join(filters["id"]):
        return False
    if "reference" in filters and "=".join(filters["reference"]) not in image["RepoTags"]:
        return False
    return lost in ("", "config") or not ("label!" in filters or (not image["RepoTags"] and not is_all))


def refusal(image: dict[str, Any]) -> str:
    """Return what podman 4.3.1 says of an image that has lost a part."""
    name, lost = image["Id"], image["lost"]
    item = "manifest" if lost == "manifest" else f"sha256:{name}"
    located = (
        f'locating item named "{item}" for image with ID "{name}" (consider removing the image to resolve the issue)'
    )
    why = "layer not known" if lost == "layer" else f"{located}: file does not exist"
    return f'retrieving label for image "{name}": you may need to remove the image to resolve the error: {why}'


async def _endless(request: web.Request, begin: bytes, more: bytes, status: int = 200) -> web.StreamResponse:
    """Send an answer that has no end."""
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await response.write(begin)
        while True:
            await response.write(more)
    return response


async def _cut(request: web.Request, content: bytes) -> web.StreamResponse:
    """Send half of what was announced, and close."""
    response = web.StreamResponse(headers={"Content-Length": str(len(content) + 1), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _annotations(manifest: bytes) -> dict[str, str]:
    """Return a manifest's annotations, whatever else is in it: podman reads a manifest nested 2,000 deep."""
    value: object = None
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(manifest.decode(errors="replace"))
    return value.get("annotations", {}) if isinstance(value, dict) else {}


def _unknown(request: web.Request) -> web.Response:
    name = request.match_info["id"]
    return _problem(404, "image not known", f"failed to find image {name}: {name}: image not known")


def _problem(status: int, cause: str, message: str) -> web.Response:
    return _json({"cause": cause, "message": message, "response": status}, status)


def _json(value: object, status: int = 200) -> web.Response:
    return web.json_response(value, status=status)


@contextlib.asynccontextmanager
async def serving(double: Double, path: Path | None = None) -> AsyncIterator[None]:
    """Serve the store on a unix socket while the block runs; the socket file goes with it."""
    socket = path or double.socket
    runner = web.AppRunner(Service(double).application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield
    finally:
        socket.unlink(missing_ok=True)
        await runner.cleanup()


def run(double: Double, path: Path) -> None:
    """Serve the store until SIGTERM."""

    async def until_terminated() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        async with serving(double, path):
            await ended.wait()

    asyncio.run(until_terminated())
