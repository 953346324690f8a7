"""Podman's REST service over its unix socket: only what reading a store needs.

The version prefix of a path is required and its number is not enforced (podman 4.3.1).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong

from bridge.errors import ImageUnknownError, InvalidError, PodmanError, UnreachableError
from bridge.oci import DOCKER_LIST, Digest
from bridge.plan import Image
from bridge.untrusted_json import decode
from bridge.untrusted_text import one_line

_BASE = "http://podman/v4.0.0/libpod"
_ANSWER = aiohttp.ClientTimeout(total=30)
_LISTING = aiohttp.ClientTimeout(total=300)
"""A listing of 1000 images takes 8 to 11 s on 4.3.1, more on a busy machine."""
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""An events stream has no heartbeat: silence is no failure. A dead service closes it."""
_LONGEST = 256 * 1024 * 1024
"""Bytes of the longest answer that is read. A listing has about 1 kB for each image, and all of its labels."""
_LISTING_TRIES = 5
_HALF_WRITTEN = "locating item named"
"""What podman says of an image that has a name and no manifest yet."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where podman keeps images, as `/info` tells. `options` are the driver's own."""

    driver: str
    graph_root: Path
    run_root: Path

    @property
    def images_directory(self) -> Path:
        """Return the directory whose `images.json` is replaced at every change of the image set."""
        return self.graph_root / f"{self.driver}-images"


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a listing does not tell of an image: its layers' diffIDs in order, its manifest's type, its platform."""

    diff_ids: tuple[Digest, ...]
    manifest_type: str
    digest: Digest | None
    architecture: str = ""
    os: str = ""


class _Listed(msgspec.Struct, rename="pascal"):
    """One image of a listing, as far as podbridge reads it."""

    id: str
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    is_manifest_list: bool = False
    digest: str | None = None
    labels: dict[str, str] | None = None
    size: int = 0
    created: int = 0


class Podman:
    """A connection to one podman service. Raises PodmanError and its kinds, never aiohttp's."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None
        self._store: Store | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def version(self) -> str:
        """Return podman's version, such as `4.3.1`."""
        answer = await self._get("/version")
        if not isinstance(answer, dict):
            msg = f"podman's /version is not as expected: {str(answer)[:200]}"
            raise PodmanError(msg)
        return one_line(str(answer.get("Version", "unknown")), 100)

    async def store(self) -> Store:
        """Return where podman keeps its images, as it said when it was asked first, or after it was away.

        `/info` runs `dpkg-query --search` for two programs each time: 0.3 to 0.5 s (4.3.1, Debian 12).
        """
        if self._store is None:
            self._store = await self._ask_store()
        return self._store

    async def _ask_store(self) -> Store:
        answer = await self._get("/info")
        try:
            store = answer["store"]
            driver, graph_root, run_root = store["graphDriverName"], store["graphRoot"], store["runRoot"]
        except (KeyError, TypeError) as error:
            msg = f"podman's /info lacks {error}"
            raise PodmanError(msg) from error
        if not all(isinstance(text, str) and text and "\0" not in text for text in (driver, graph_root, run_root)):
            msg = f"podman's /info names no store: {str(store)[:200]}"
            raise PodmanError(msg)
        return Store(driver, Path(graph_root), Path(run_root))

    async def images(self) -> tuple[Image, ...]:
        """List every image of the store. A listing that fails raises; it is never empty for that.

        An image that is being removed (up to podman 4.6) or written meanwhile makes the whole listing answer 500:
        it is asked again.
        """
        for attempt in range(1, _LISTING_TRIES + 1):
            try:
                answer = await self._get("/images/json", _LISTING)
                return tuple(_image(entry) for entry in msgspec.convert(answer, list[_Listed]))
            except PodmanError as error:
                passes = isinstance(error, ImageUnknownError) or _HALF_WRITTEN in str(error)
                if attempt == _LISTING_TRIES or not passes:
                    raise
                await asyncio.sleep(0.05 * attempt)
            except (msgspec.ValidationError, InvalidError) as error:
                msg = f"podman's listing of images is not as expected: {error}"
                raise PodmanError(msg) from error
        raise AssertionError

    async def inspect(self, image_id: str) -> Inspected:
        """Return the layers and the manifest type of the image; raise ImageUnknownError if it is gone."""
        answer = await self._get(f"/images/{image_id}/json")
        try:
            layers = answer["RootFS"].get("Layers") or ()
            digest = answer.get("Digest")
            return Inspected(
                tuple(Digest.parse(layer) for layer in layers),
                str(answer["ManifestType"]),
                Digest.parse(digest) if digest else None,
                str(answer.get("Architecture") or ""),
                str(answer.get("Os") or ""),
            )
        except (KeyError, TypeError, AttributeError, InvalidError) as error:
            msg = f"podman's description of image {image_id[:12]} is not as expected: {error!r}"
            raise PodmanError(msg) from error

    async def exists(self, image: Image) -> bool:
        """Say whether the image is in the store now. Podman looks for a manifest list elsewhere than for an image."""
        kind = "manifests" if image.is_list else "images"
        async with self._request(f"/{kind}/{image.id}/exists", _ANSWER) as response:
            if response.status not in (204, 404):
                raise problem(response.status, await response.read())
            return response.status == 204

    async def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield an empty mapping once the stream is open, then every event; end when podman ends it."""
        async with self._request("/events?stream=true", _STREAM) as response:
            if response.status != 200:
                raise problem(response.status, await response.read())
            yield {}
            async for line in _lines(response.content):
                event = _decode(line)
                if not isinstance(event, dict) or "Type" not in event:
                    raise problem(500, line)
                yield event

    async def _get(self, path: str, timeout: aiohttp.ClientTimeout = _ANSWER) -> Any:
        async with self._request(path, timeout) as response:
            content = await response.read()
            if response.status != 200:
                raise problem(response.status, content)
            return _decode(content)

    @contextlib.asynccontextmanager
    async def _request(self, path: str, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise AssertionError
        try:
            async with self._session.get(_BASE + path, timeout=timeout) as response:
                yield response
        except TimeoutError as error:
            self._store = None
            msg = f"podman did not answer {path} within {timeout.total or timeout.sock_connect:g} s"
            raise UnreachableError(msg) from error
        except (aiohttp.ClientError, OSError) as error:
            self._store = None
            msg = f"podman does not answer on {self.socket}: {_words(error)}"
            raise UnreachableError(msg) from error


def _words(error: Exception) -> str:
    """Say what happened to a connection, without aiohttp's own vocabulary."""
    match error:
        case aiohttp.ClientConnectorError():
            return error.os_error.strerror or str(error.os_error)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return "it closed the connection in the middle of its answer"
        case _:
            return str(error)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    try:
        async for line in content:
            yield line
    except LineTooLong as error:
        msg = "podman wrote an event that is too long to read"
        raise PodmanError(msg) from error


def _decode(content: bytes) -> Any:
    try:
        return decode(content, "podman's answer", limit=_LONGEST)
    except InvalidError as error:
        msg = f"{error}: {content[:200]!r}"
        raise PodmanError(msg) from error


def problem(status: int, content: bytes) -> PodmanError:
    """Return what an answer that is no 200 says."""
    try:
        message = one_line(str(decode(content, "podman's error")["message"]))
    except (InvalidError, KeyError, TypeError):
        message = one_line(content[:200].decode(errors="replace"))
    if status == 404 or "image not known" in message:
        return ImageUnknownError(message)
    return PodmanError(f"podman answered {status}: {message}")


_EMPTY_LIST = Digest.of(msgspec.json.encode({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": None}))
"""What podman 4 shows as the digest of every manifest list: that of the list when it was made, empty. The
current one stands beside it in RepoDigests, and changes with every edit (measured, 4.3.1)."""


def _image(entry: _Listed) -> Image:
    digest = Digest.parse(entry.digest) if entry.digest else None
    digests = frozenset(Digest.parse(text.rpartition("@")[2]) for text in entry.repo_digests or ())
    is_list = entry.is_manifest_list or digest == _EMPTY_LIST
    if digest == _EMPTY_LIST:
        digests -= {_EMPTY_LIST}
        digest = min(digests, default=digest)
    return Image(
        id=Digest.parse(f"sha256:{entry.id}").hex,
        names=tuple(entry.repo_tags or ()),
        digest=digest,
        digests=digests,
        is_list=is_list,
        labels=entry.labels or {},
        size=entry.size,
        created=entry.created,
    )
