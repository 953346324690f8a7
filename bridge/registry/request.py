"""A request's target, parsed once into a value. What parses is safe; what does not is answered 400 or 404."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from bridge.errors import InvalidError
from bridge.oci import Digest, Repository, Tag
from bridge.registry.errors import Problem, RegistryError
from bridge.registry.remembering import remembered

_CONTENT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers)/(?P<reference>[^/]*)", re.DOTALL)
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list", re.DOTALL)
_ABSENT = re.compile(r"[.-](?!\.)[A-Za-z0-9._-]{1,127}")


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: does this registry speak the protocol (end-1)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a list that is wanted: at most `n` names (None: all) that come after `last`."""

    n: int | None = None
    last: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """`/v2/_catalog`: which repositories are there."""

    part: Slice


@dataclass(frozen=True, slots=True)
class Tags:
    """`/v2/<name>/tags/list` (end-8a, end-8b)."""

    repository: Repository
    namespace: str
    part: Slice


@dataclass(frozen=True, slots=True)
class ManifestOf:
    """`/v2/<name>/manifests/<reference>` (end-3)."""

    repository: Repository
    namespace: str
    reference: Tag | Digest


@dataclass(frozen=True, slots=True)
class BlobOf:
    """`/v2/<name>/blobs/<digest>` (end-2)."""

    repository: Repository
    namespace: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class ReferrersOf:
    """`/v2/<name>/referrers/<digest>` (end-12a), of one `artifact_type` only where it is not empty (end-12b)."""

    repository: Repository
    namespace: str
    subject: Digest
    artifact_type: str


Asked = Base | Catalog | Tags | ManifestOf | BlobOf | ReferrersOf


@remembered(2048)
def parse(target: str) -> Asked:
    """Parse a request target as it came over the wire; raise RegistryError where it names nothing.

    The endpoints are those of https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints.

    A tag that cannot exist is of two kinds. One of the legal characters that only begins with `.` or `-`
    is well formed for a URL and merely never there: 404 MANIFEST_UNKNOWN, as the conformance suite
    asks for `.INVALID_MANIFEST_NAME`. All else (`..`, other characters, more than 128) is answered 400.
    """
    if not target.startswith("/"):  # absolute, as to a proxy; urlsplit would raise for some that are not
        target = "/" + target.partition("://")[2].partition("/")[2]
    raw, _, query = target.partition("?")
    path = unquote(raw)
    asked = dict(parse_qsl(query)) if query else {}
    if path in ("/v2", "/v2/"):
        return Base()
    if path == "/v2/_catalog":
        return Catalog(_slice(asked))
    if match := _TAGS.fullmatch(path):
        return Tags(_repository(match["name"]), asked.get("ns", ""), _slice(asked))
    if match := _CONTENT.fullmatch(path):
        return _content(match, asked)
    raise RegistryError(Problem.NO_ENDPOINT, {"path": path[:300]})


def _content(match: re.Match[str], asked: dict[str, str]) -> Asked:
    repository, namespace = _repository(match["name"]), asked.get("ns", "")
    if match["kind"] == "manifests":
        return ManifestOf(repository, namespace, _reference(match["reference"]))
    digest = _digest(match["reference"])
    if match["kind"] == "blobs":
        return BlobOf(repository, namespace, digest)
    # A "+" that a client left as it is reads as a space, which no media type has.
    return ReferrersOf(repository, namespace, digest, asked.get("artifactType", "").replace(" ", "+"))


def _slice(asked: dict[str, str]) -> Slice:
    n = asked.get("n")
    if n is None:
        return Slice(None, asked.get("last", ""))
    if not n.isascii() or not n.isdigit():
        raise RegistryError(Problem.PAGE_INVALID, {"n": n[:40]})
    return Slice(int(n[:18]), asked.get("last", ""))


def _repository(text: str) -> Repository:
    try:
        return Repository(text)
    except InvalidError as error:
        raise RegistryError(Problem.NAME_INVALID, str(error)) from error


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidError as error:
        raise RegistryError(Problem.DIGEST_INVALID, str(error)) from error


def _reference(text: str) -> Tag | Digest:
    if ":" in text:
        return _digest(text)
    try:
        return Tag(text)
    except InvalidError as error:
        problem = Problem.MANIFEST_UNKNOWN if _ABSENT.fullmatch(text) else Problem.REFERENCE_INVALID
        raise RegistryError(problem, str(error)) from error
