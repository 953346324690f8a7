"""What the registry answers when it does not answer with content: one table decides.

The codes are those of distribution-spec v1.1.1, "Error Codes", and two for what is not of its API:
BAD_REQUEST and NOT_FOUND.
"""

from collections.abc import Mapping
from enum import Enum

import msgspec
from aiohttp import web

_WRITE = (
    "this registry is read only: it shows what podman's store on its host holds. "
    "Build, tag or pull the image there, or run `podbridge publish IMAGE`"
)


class Code(Enum):
    """An OCI error code with its HTTP status and its message."""

    BAD_REQUEST = 400, "not a valid HTTP request"
    BLOB_UNKNOWN = 404, "blob unknown to this repository"
    DIGEST_INVALID = 400, "not a valid digest"
    MANIFEST_INVALID = 400, "not a valid tag or digest"
    MANIFEST_UNKNOWN = 404, "manifest unknown to this repository"
    NAME_INVALID = 400, "not a valid repository name"
    NAME_UNKNOWN = 404, "repository name not known to this registry"
    NOT_FOUND = 404, "there is nothing at this path; the registry's API begins with /v2/"
    UNKNOWN = 500, "the registry cannot read its tree; its log says why"
    UNSUPPORTED = 405, _WRITE

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return self.value[0]

    @property
    def message(self) -> str:
        """Return what a client shows to its user."""
        return self.value[1]


class RegistryError(Exception):
    """A request that is answered with an error; `detail` names what was asked for."""

    def __init__(self, code: Code, detail: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code.name)
        self.code = code
        self.detail = detail
        self.headers = headers or {}


def error_response(error: RegistryError) -> web.Response:
    """Return the error as the specification's JSON, with exactly `application/json`."""
    body: dict[str, object] = {"code": error.code.name, "message": error.code.message}
    if error.detail is not None:
        body["detail"] = error.detail
    return web.Response(
        status=error.code.status,
        body=msgspec.json.encode({"errors": [body]}),
        headers={"Content-Type": "application/json", **error.headers},
    )
