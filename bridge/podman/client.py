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
from urllib.parse import quote

import aiohttp
import msgspec

from bridge.errors import BadAnswerError, ImageUnknownError, InvalidError, PodmanError, UnreachableError
from bridge.oci import Digest
from bridge.plan import Damage, Image, Listing
from bridge.podman import bounds, listing, options
from bridge.untrusted_json import decode
from bridge.untrusted_text import one_line

_BASE = "http://podman/v4.0.0/libpod"
_ANSWER = aiohttp.ClientTimeout(total=30)
_LISTING = aiohttp.ClientTimeout(total=300)
"""A listing of 1000 images takes 8 to 11 s on 4.3.1, more on a busy machine."""
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""An events stream has no heartbeat: silence is no failure. A dead service closes it."""
_LISTING_TRIES = 5
_HALF_WRITTEN = "locating item named"
"""What podman says of an image that has a name and no manifest yet."""
_MOST_NAMED = 16
"""Damaged images that are told by name. The others are left out too."""
_READABLE_TRIES = 8
"""podman looks at the ID of an image before its labels in every second listing."""

UNREAD: Mapping[str, Any] = {"Type": "image", "Action": "too long to read"}
"""What stands for an event that is too long."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where podman keeps images, as `/info` tells. `options` are its driver's own, each `KEY=VALUE`."""

    driver: str
    graph_root: Path
    run_root: Path
    options: tuple[str, ...] = ()

    @property
    def images_directory(self) -> Path:
        """Return the directory whose `images.json` is replaced at every change of the image set."""
        return self.graph_root / f"{self.driver}-images"


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a listing does not tell of an image: its layers' diffIDs in order, its manifest's type, its platform.

    `form` stands for what podman says of the current manifest: its type and its annotations. `digest` is the one that
    the listing shows, of the first manifest that was stored (4.3.1, 5.8.6).
    """

    diff_ids: tuple[Digest, ...]
    manifest_type: str
    digest: Digest | None
    architecture: str = ""
    os: str = ""
    form: str = ""


class Podman:
    """A connection to one podman service. Raises PodmanError and its kinds, never aiohttp's."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None
        self._store: Store | None = None
        self._damaged: frozenset[str] = frozenset()
        """What the last listing named: a failure for it does not pass."""

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
        return Store(driver, Path(graph_root), Path(run_root), options.read(store.get("graphOptions")))

    async def images(self) -> tuple[Image, ...]:
        """List every image of the store. A listing that fails raises; it is never empty for that.

        An image that is being removed (up to podman 4.6) or written meanwhile makes the whole listing answer 500:
        it is asked again. So does one that is damaged, for good: see `listing`.
        """
        for attempt in range(1, _LISTING_TRIES + 1):
            try:
                return await self._list(listing.path())
            except PodmanError as error:
                if attempt == _LISTING_TRIES or not self._passes(error, attempt):
                    raise
                await asyncio.sleep(0.05 * attempt)
        raise AssertionError

    def _passes(self, error: PodmanError, attempt: int) -> bool:
        """Return True if a listing may succeed after a moment that failed so."""
        image_id = listing.culprit(error)
        if isinstance(error, UnreachableError | BadAnswerError) or image_id in self._damaged:
            return False
        return isinstance(error, ImageUnknownError) or _HALF_WRITTEN in str(error) or (attempt == 1 and not image_id)

    async def listing(self) -> Listing:
        """List every image that podman can read, and what it says of each of the others that it names.

        A damaged image costs one request more, each further one three at the most. Raises PodmanError if podman lists
        nothing.
        """
        try:
            found = Listing(await self.images())
        except (UnreachableError, BadAnswerError):
            raise
        except PodmanError as error:
            found = await self._list_sound(error)
        self._damaged = frozenset(one.image_id for one in found.damage)
        return found

    async def _list_sound(self, first: PodmanError) -> Listing:
        """Leave out the images that podman names, one after the other; then have it drop what it cannot read."""
        damage: dict[str, Damage] = {}
        error = first
        while (image_id := listing.culprit(error)) and image_id not in damage and len(damage) < _MOST_NAMED:
            damage[image_id] = Damage(image_id, _said(error))
            try:
                return Listing(await self._list(listing.path(damage)), tuple(damage.values()))
            except (UnreachableError, BadAnswerError):
                raise
            except PodmanError as another:
                error = another
        images = await self._list_between(damage) if damage else None
        if images is None:
            images = await self._list_readable(damage, first)
        return Listing(images, tuple(damage.values()) or (Damage("", _said(first)),))

    async def _list_between(self, damage: dict[str, Damage]) -> tuple[Image, ...] | None:
        """List the images between the damaged ones, each of which podman names in its turn.

        The earlier ones come first: a name that moves meanwhile to a new image is then in one of them at least. Returns
        None if that lists not all: of two damaged images of the very same time podman can leave out one only.
        """
        images: list[Image] = []
        spans = [*reversed(listing.Span().around(next(iter(damage))))]
        while spans:
            span = spans.pop()
            try:
                images += await self._list(span.path)
            except (UnreachableError, BadAnswerError):
                raise
            except PodmanError as error:
                image_id = listing.culprit(error)
                if not image_id or span.twin or image_id in span.ends or len(damage) > _MOST_NAMED:
                    return None
                damage.setdefault(image_id, Damage(image_id, _said(error)))
                spans += reversed(span.around(image_id))
        return tuple(images)

    async def _list_readable(self, damage: dict[str, Damage], first: PodmanError) -> tuple[Image, ...]:
        """Have podman drop what it cannot read. An image without a config it drops only if it comes to its ID first."""
        without: set[str] = set()
        for attempt in range(_READABLE_TRIES):
            try:
                return await self._list(listing.path(without, is_readable=True))
            except (UnreachableError, BadAnswerError):
                raise
            except PodmanError as error:
                if not (image_id := listing.culprit(error)):
                    break
                damage.setdefault(image_id, Damage(image_id, _said(error)))
                without = set(damage) if attempt % 2 else {image_id}
        raise first

    async def _list(self, path: str) -> tuple[Image, ...]:
        async with self._request(path, _LISTING) as response:
            if response.status != 200:
                raise problem(response.status, await bounds.read_problem(response))
            return listing.parse(await bounds.read(response, bounds.LISTING))

    async def trouble(self, image: str, image_id: str = "") -> Damage | None:
        """Return what podman says of an image, by ID or name, that it has and cannot read, and None of any other.

        A listing may pass over such an image without a word: 5.8.6 over one that lacks a layer, 4.3.1 over one that has
        no name. A description of it fails, with 500 and not with 404. `image_id` is told if podman names none. Raises
        UnreachableError.
        """
        words = await self._refusal(f"/images/{quote(image)}/json")
        if words is None:
            return None
        words = await self._refusal(listing.path_of(image)) or words  # 4.3.1 only crashes where it describes one
        return Damage(listing.culprit(words) or image_id, _said(words))

    async def _refusal(self, path: str) -> PodmanError | None:
        """Return the error that podman answers, other than that it knows no such image."""
        try:
            await self._get(path, limit=bounds.IMAGE)
        except UnreachableError:
            raise
        except ImageUnknownError:
            return None
        except PodmanError as error:
            return error
        return None

    async def inspect(self, image_id: str) -> Inspected:
        """Return the layers and the manifest type of the image; raise ImageUnknownError if it is gone."""
        answer = await self._get(f"/images/{image_id}/json", limit=bounds.IMAGE)
        try:
            layers = answer["RootFS"].get("Layers") or ()
            digest = answer.get("Digest")
            return Inspected(
                tuple(Digest.parse(layer) for layer in layers if layer),  # docker's first format has empty ones
                str(answer["ManifestType"]),
                Digest.parse(digest) if digest else None,
                str(answer.get("Architecture") or ""),
                str(answer.get("Os") or ""),
                _form(answer),
            )
        except (KeyError, TypeError, AttributeError, InvalidError) as error:
            msg = f"podman's description of image {image_id[:12]} is not as expected: {error!r}"
            raise PodmanError(msg) from error

    async def exists(self, image: Image) -> bool:
        """Say whether the image is in the store now. Podman looks for a manifest list elsewhere than for an image."""
        kind = "manifests" if image.is_list else "images"
        async with self._request(f"/{kind}/{image.id}/exists", _ANSWER) as response:
            if response.status not in (204, 404):
                raise problem(response.status, await bounds.read_problem(response))
            return response.status == 204

    async def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield an empty mapping once the stream is open, then every event; end when podman ends it.

        An event that is too long to be read comes as UNREAD. Labels make it long: a line has them all.
        """
        async with self._request("/events?stream=true", _STREAM) as response:
            if response.status != 200:
                raise problem(response.status, await bounds.read_problem(response))
            yield {}
            async for line in bounds.lines(response.content):
                event = UNREAD if line is None else _decode(line)
                if not isinstance(event, Mapping) or "Type" not in event:
                    raise problem(500, line or b"")
                yield event

    async def _get(self, path: str, *, limit: int = bounds.SMALL) -> Any:
        async with self._request(path, _ANSWER) as response:
            if response.status != 200:
                raise problem(response.status, await bounds.read_problem(response))
            return _decode(await bounds.read(response, limit))

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


def _decode(content: bytes) -> Any:
    try:
        return decode(content, "podman's answer", limit=bounds.IMAGE)
    except InvalidError as error:
        msg = f"{error}: {content[:200]!r}"
        raise PodmanError(msg) from error


def _said(error: PodmanError) -> str:
    """Return podman's own words of an error."""
    return str(error).removeprefix("podman answered 500: ")


def _form(answer: Mapping[str, Any]) -> str:
    """Return what stands for the type and the annotations of the current manifest."""
    content = msgspec.json.encode([answer["ManifestType"], answer.get("Annotations") or {}], order="sorted")
    return Digest.of(content).hex[:16]


def problem(status: int, content: bytes) -> PodmanError:
    """Return what an answer that is no 200 says."""
    try:
        message = one_line(str(decode(content, "podman's error")["message"]))
    except (InvalidError, KeyError, TypeError):
        message = one_line(content[:200].decode(errors="replace"))
    if status == 404 or "image not known" in message:
        return ImageUnknownError(message)
    return PodmanError(f"podman answered {status}: {message}")
