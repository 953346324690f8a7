"""Asking the running service over its control socket."""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import requests
import requests_unixsocket

from bridge.errors import ControlError, InvalidError
from bridge.untrusted_json import decode

_PREFIX = "/bridge/v1"
_LONG = (5.0, 3600.0)
"""Seconds to connect, and until an answer: `publish` waits for an export, `explain` for a listing."""
_SOON = (5.0, 30.0)
"""The same for what the service knows by itself: systemd's socket takes requests also where no service starts."""
_KNOWN = ("/status", "/publications")

_LONGEST = 256 * 1024 * 1024
"""Bytes of the longest answer that is read."""

_LINES = "application/x-ndjson"

_Answer = TypeVar("_Answer")


class NoServiceError(ControlError):
    """No service answers on the control socket."""


class Client:
    """One control socket. Raises ControlError with the service's words, NoServiceError where none runs."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session = requests_unixsocket.Session()
        self._base = f"http+unix://{quote(str(socket), safe='')}{_PREFIX}"

    def get(self, path: str, kind: type[_Answer], **query: str | Sequence[str]) -> _Answer:
        """GET a document. A word of the query may have several values."""
        return self._ask("GET", path, kind, params=query)

    def post(self, path: str, kind: type[_Answer], body: object = None, **query: str) -> _Answer:
        """POST a document, or nothing."""
        return self._ask("POST", path, kind, body, params=query)

    @contextlib.contextmanager
    def stream(self, method: str, path: str, body: object = None, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Send a request, and have the lines of its answer as they come while the block runs."""
        accept = {"Accept": _LINES, **headers}
        with self._send(method, path, body, headers=accept, stream=True) as response:
            yield self._lines(response)

    def _lines(self, response: requests.Response) -> Iterator[dict[str, Any]]:
        try:
            for line in response.iter_lines(chunk_size=None):
                if line:
                    yield self._decode(line, dict[str, Any])
        except requests.RequestException as error:
            msg = f"the service on {self._socket} stopped answering"
            raise ControlError(msg) from error

    @staticmethod
    def read(record: dict[str, Any], kind: type[_Answer]) -> _Answer:
        """Return a line of a stream as the document that it is."""
        try:
            return msgspec.convert(record, kind)
        except msgspec.ValidationError as error:
            msg = f"the service is no podbridge of this version: {error}"
            raise ControlError(msg) from error

    def delete(self, path: str, **query: str) -> None:
        """DELETE what the path names."""
        self._ask("DELETE", path, type(None), params=query)

    def _ask(self, method: str, path: str, kind: type[_Answer], body: object = None, **arguments: Any) -> _Answer:
        response = self._send(method, path, body, **arguments)
        return self._decode(response.content or b"null", kind)

    def _decode(self, content: bytes, kind: type[_Answer]) -> _Answer:
        try:
            return decode(content, "the answer", kind, limit=_LONGEST)
        except InvalidError as error:
            msg = f"what answers on {self._socket} is no podbridge of this version: {error}"
            raise ControlError(msg) from error

    def _send(self, method: str, path: str, body: object = None, **arguments: Any) -> requests.Response:
        arguments["timeout"] = _SOON if method == "GET" and path in _KNOWN else _LONG
        try:
            arguments["data"] = None if body is None else msgspec.json.encode(body)
            response: requests.Response = self._session.request(method, self._base + path, **arguments)
        except UnicodeEncodeError as error:
            msg = f"not UTF-8: {error.object[:300]!r}"
            raise InvalidError(msg) from error
        except requests.ConnectionError as error:
            raise self._no_service(error) from error
        except requests.ReadTimeout as error:
            msg = f"the service on {self._socket} does not answer; is it starting? Its log says more"
            raise ControlError(msg) from error
        except requests.RequestException as error:
            msg = f"the service on {self._socket} did not answer: {error}"
            raise ControlError(msg) from error
        if not response.ok:
            raise ControlError(_message(response))
        return response

    def _no_service(self, error: requests.ConnectionError) -> ControlError:
        if f"[Errno {errno.EACCES}]" in str(error):
            return ControlError(
                f"no permission to use control socket {self._socket}: run this as the service's user, "
                "or as a member of the group that its setting control.group names"
            )
        return NoServiceError(f"no podbridge service answers on {self._socket}: start one with `podbridge serve`")


def _message(response: requests.Response) -> str:
    try:
        return str(decode(response.content, "the answer")["message"])
    except (InvalidError, KeyError, TypeError):
        return f"the service answered {response.status_code}"
