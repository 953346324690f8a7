"""What the registry answers when it does not answer with content: one table decides.

The codes are those of https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes.
The specification has none for an error of the server or of HTTP itself: those are UNSUPPORTED, and
their messages say what is the matter.
"""

from collections.abc import Mapping
from enum import Enum

import msgspec
from aiohttp import web

_WRITE = (
    "this registry is read only: it shows what podman's store on its host holds. "
    "Build, tag or pull the image there, or run `podbridge publish IMAGE`"
)
_ACCEPT = "the manifest is there, but the request's Accept header excludes its media type"


class Problem(Enum):
    """What can be wrong: HTTP status, code of the specification, message."""

    BLOB_UNKNOWN = 404, "BLOB_UNKNOWN", "blob unknown to this repository"
    DENIED = 403, "DENIED", "you may not read this repository"
    DIGEST_INVALID = 400, "DIGEST_INVALID", "not a valid digest"
    FAILED = 500, "UNSUPPORTED", "the registry cannot read what was asked for; its log says why"
    MANIFEST_EXCLUDED = 404, "MANIFEST_UNKNOWN", _ACCEPT
    MANIFEST_UNKNOWN = 404, "MANIFEST_UNKNOWN", "manifest unknown to this repository"
    NAME_INVALID = 400, "NAME_INVALID", "not a valid repository name"
    NAME_UNKNOWN = 404, "NAME_UNKNOWN", "repository name not known to this registry"
    NO_ENDPOINT = 404, "UNSUPPORTED", "there is nothing at this path; the registry's API begins with /v2/"
    PAGE_INVALID = 400, "UNSUPPORTED", "n is not a number of 0 or more"
    RANGE_INVALID = 416, "SIZE_INVALID", "no requested range lies within the blob"
    READ_ONLY = 405, "UNSUPPORTED", _WRITE
    REFERENCE_INVALID = 400, "MANIFEST_INVALID", "not a valid tag or digest"
    REQUEST_INVALID = 400, "UNSUPPORTED", "not an HTTP request that this registry understands"
    REQUEST_TOO_LARGE = 431, "UNSUPPORTED", "the head of the request is too long, or its fields are too many"
    REQUEST_TOO_SLOW = 408, "UNSUPPORTED", "the head of the request was not complete in time"
    TOO_MANY_CONNECTIONS = 503, "TOOMANYREQUESTS", "too many connections are open"
    TOO_MANY_LOGINS = 429, "TOOMANYREQUESTS", "too many passwords wait to be checked; try again in a second"
    TOO_MUCH_HELD = 503, "TOOMANYREQUESTS", "too many requests are incomplete or wait; try again in a second"
    UNAUTHORIZED = 401, "UNAUTHORIZED", "log in with a user and password that this registry knows"

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return self.value[0]

    @property
    def code(self) -> str:
        """Return the code of the specification."""
        return self.value[1]

    def body(self, detail: object = None) -> bytes:
        """Return the specification's JSON; `detail` names what was asked for."""
        error: dict[str, object] = {"code": self.code, "message": self.value[2]}
        if detail is not None:
            error["detail"] = detail
        return msgspec.json.encode({"errors": [error]})


class RegistryError(Exception):
    """A request that is answered with an error; `headers` come on top of those of every error."""

    def __init__(self, problem: Problem, detail: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.name)
        self.problem = problem
        self.detail = detail
        self.headers = headers or {}


COMMON = {"Docker-Distribution-Api-Version": "registry/2.0"}
"""The header of every response: docker's clients look for it at `/v2/`."""


def error_response(error: RegistryError) -> web.Response:
    """Return the error with exactly `application/json`; not to be stored: what is missing may come."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **COMMON, **error.headers}
    return web.Response(status=error.problem.status, body=error.problem.body(error.detail), headers=headers)
