"""Who asks, and what he may read. Decided by name, before the tree is looked at: a refusal tells nothing of it.

docs/decisions/0010-access.md says why it is as it is.
"""

import base64
import binascii
import contextlib
import fnmatch
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from aiohttp import web

from bridge.config import AuthConfig, RegistryConfig
from bridge.oci import Repository
from bridge.registry.errors import Problem, RegistryError, error_response
from bridge.registry.htpasswd import Htpasswd
from bridge.registry.passwords import Attempt, Passwords, checking

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_EVERYTHING = ("*",)
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="podbridge", charset="UTF-8"'}


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks (None: he gave no name), and globs over the repositories that he may read. `*` also matches `/`."""

    user: str | None
    patterns: tuple[str, ...] = _EVERYTHING
    can_log_in: bool = False

    def may_read(self, repository: str) -> bool:
        """Say whether the reader may read the repository of that name, whether it is there or not."""
        return "*" in self.patterns or any(fnmatch.fnmatchcase(repository, pattern) for pattern in self.patterns)

    def refusal(self) -> RegistryError:
        """Return what answers a request for what the reader may not read."""
        if self.can_log_in:
            return RegistryError(Problem.UNAUTHORIZED, None, _CHALLENGE)
        return RegistryError(Problem.DENIED)


_READER = web.RequestKey("reader", Reader)


def reader_of(request: web.BaseRequest) -> Reader:
    """Return who asks. Raises KeyError for a request that no `Guard` let in."""
    return request[_READER]


def user_of(request: web.BaseRequest) -> str | None:
    """Return the name of who asks; None where he gave none, or was not let in."""
    reader = request.get(_READER)
    return None if reader is None else reader.user


def readable(request: web.BaseRequest, candidates: Iterable[Repository]) -> Iterator[Repository]:
    """Yield those of the repositories that a request can mean that its reader may read.

    Raises RegistryError at the end, when none of them was it, where the first, which is the name that
    was asked for, is one that he may not read.
    """
    reader = reader_of(request)
    refused = False
    for number, repository in enumerate(candidates):
        if reader.may_read(repository.name):
            yield repository
        elif number == 0:
            refused = True
    if refused:
        raise reader.refusal()


class Guard:
    """Lets requests through to `handle` with a reader on them, or answers 401."""

    def __init__(self, settings: RegistryConfig, passwords: Passwords | None, handle: Handler) -> None:
        self._auth = settings.auth or AuthConfig()
        self._certified = settings.tls is not None and settings.tls.client_ca is not None
        self._passwords = passwords
        self._handle = handle
        self._anonymous = Reader(None, self._without_name(), can_log_in=passwords is not None)

    def _without_name(self) -> tuple[str, ...]:
        if self._auth.anonymous is not None:
            return self._auth.anonymous
        return () if self._passwords is not None else _EVERYTHING

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            request[_READER] = await self._admit(request)
        except RegistryError as error:
            return error_response(error)
        return await self._handle(request)

    async def _admit(self, request: web.BaseRequest) -> Reader:
        if self._passwords is None:
            return self._named(_subject(request)) if self._certified else self._anonymous
        user = await self._log_in(self._passwords, request)
        if user is not None:
            return self._named(user)
        # /v2/ is where podman and docker learn that there is something to log in to
        if not self._anonymous.patterns or request.path in ("/v2", "/v2/"):
            raise self._anonymous.refusal()
        return self._anonymous

    def _named(self, user: str) -> Reader:
        users = self._auth.users
        return Reader(user, _EVERYTHING if users is None else users.get(user, ()))

    async def _log_in(self, passwords: Passwords, request: web.BaseRequest) -> str | None:
        """Return the user whose password a request carries, None where it carries none.

        Raises RegistryError for a wrong one: it is never taken for none, or a mistyped password would
        look like a repository that is missing.
        """
        headers = request.headers.getall("Authorization", [])
        if not headers:
            return None
        credentials = _basic(headers[0]) if len(headers) == 1 else None
        if credentials == ("", b""):  # what podman and skopeo send when they have none
            return None
        peer = request.remote or "-"  # a unix socket has no address
        if credentials is None:
            await passwords.refuse(peer)
        elif await passwords.fits(Attempt(peer, *credentials)):
            return credentials[0]
        raise RegistryError(Problem.UNAUTHORIZED, None, _CHALLENGE)


def _basic(header: str) -> tuple[str, bytes] | None:
    """Read user and password, in UTF-8: https://www.rfc-editor.org/rfc/rfc7617.html ; None for anything else."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _subject(request: web.BaseRequest) -> str:
    """Return the common name of the client's certificate, which TLS has verified; empty where it has none."""
    certificate = request.get_extra_info("peercert") or {}
    names = (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
    return next(names, "")


@contextlib.contextmanager
def guarded(settings: RegistryConfig, handle: Handler) -> Iterator[Handler]:
    """Put the settings' access rules before `handle` while the block runs. Raises ConfigError."""
    with contextlib.ExitStack() as stack:
        auth = settings.auth
        passwords = None if auth is None or auth.htpasswd is None else Htpasswd(auth.htpasswd)
        checker = None if passwords is None else stack.enter_context(checking(passwords, settings.workers))
        yield Guard(settings, checker, handle).handle
