"""A request's path, parsed once into a value. What parses is safe; what does not is answered 400 or 404."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from bridge.errors import InvalidError
from bridge.oci import Digest, Repository, Tag
from bridge.registry.errors import Code, RegistryError

_CONTENT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]*)", re.DOTALL)
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: does this registry speak the protocol (end-1)."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """`/v2/_catalog`: which repositories are there."""


@dataclass(frozen=True, slots=True)
class Tags:
    """`/v2/<name>/tags/list` (end-8a)."""

    repository: Repository


@dataclass(frozen=True, slots=True)
class ManifestOf:
    """`/v2/<name>/manifests/<reference>` (end-3)."""

    repository: Repository
    reference: Tag | Digest


@dataclass(frozen=True, slots=True)
class BlobOf:
    """`/v2/<name>/blobs/<digest>` (end-2)."""

    repository: Repository
    digest: Digest


Asked = Base | Catalog | Tags | ManifestOf | BlobOf


def parse(target: str) -> Asked:
    """Parse a request target as it came over the wire; raise RegistryError where it names nothing."""
    path = unquote(urlsplit(target).path if "://" in target else target.partition("?")[0])
    if path in ("/v2", "/v2/"):
        return Base()
    if path == "/v2/_catalog":
        return Catalog()
    if match := _TAGS.fullmatch(path):
        return Tags(_repository(match["name"]))
    if match := _CONTENT.fullmatch(path):
        repository = _repository(match["name"])
        if match["kind"] == "blobs":
            return BlobOf(repository, _digest(match["reference"]))
        return ManifestOf(repository, _reference(match["reference"]))
    raise RegistryError(Code.NOT_FOUND, {"path": path[:300]})


def _repository(text: str) -> Repository:
    try:
        return Repository(text)
    except InvalidError as error:
        raise RegistryError(Code.NAME_INVALID, str(error)) from error


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidError as error:
        raise RegistryError(Code.DIGEST_INVALID, str(error)) from error


def _reference(text: str) -> Tag | Digest:
    if ":" in text:
        return _digest(text)
    try:
        return Tag(text)
    except InvalidError as error:
        raise RegistryError(Code.MANIFEST_INVALID, str(error)) from error
