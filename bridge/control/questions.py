"""What a request asks, read from its query and its body. A wrong word is refused, never ignored."""

import fnmatch
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from bridge.control.schema import PublicationView, PublishRequest, State
from bridge.errors import InvalidError

LINES = "application/x-ndjson"
"""The media type of one JSON document a line."""


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No question at all."""


class Selection(msgspec.Struct, forbid_unknown_fields=True):
    """Which publications: all that fit every word that is given.

    `state` may be repeated. `repository` is a glob. `image` is a podman name, or an image ID or the
    beginning of one; `digest` one that the publication is served as or came from, or the beginning of it.
    `n` at most, after the reference `last`.
    """

    state: tuple[State, ...] = ()
    repository: str = "*"
    image: str = ""
    digest: str = ""
    n: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000
    last: str = ""

    def admits(self, view: PublicationView) -> bool:
        """Say whether a publication is one of those."""
        return (
            (not self.state or view.state in self.state)
            and fnmatch.fnmatchcase(view.reference.rpartition(":")[0], self.repository)
            and (not self.image or self._is_of_image(view))
            and (not self.digest or self._is_known_by_digest(view))
        )

    def _is_of_image(self, view: PublicationView) -> bool:
        return self.image == view.name or view.image.startswith(self.image.removeprefix("sha256:"))

    def _is_known_by_digest(self, view: PublicationView) -> bool:
        hexes = (text.removeprefix("sha256:") for text in (view.digest, view.podman_digest, view.image, *view.origins))
        return any(known.startswith(self.digest.removeprefix("sha256:")) for known in hexes if known)


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
        msg = f"query: {error}"
        raise InvalidError(msg) from error


async def publish_request(request: web.Request) -> PublishRequest:
    """Read what is to be published; raise InvalidError where the body does not say so."""
    try:
        return msgspec.json.decode(await request.read(), type=PublishRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"body: {error}"
        raise InvalidError(msg) from error


def wants_lines(request: web.Request) -> bool:
    """Say whether the answer is to be one JSON document a line, as it happens."""
    kinds = (text.partition(";")[0].strip() for text in request.headers.get("Accept", "").split(","))
    return LINES in kinds
