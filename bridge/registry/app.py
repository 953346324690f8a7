"""The HTTP side of a tree: a request is parsed once, answered by one function, failed in one place."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import msgspec
from aiohttp import web

from bridge.config import EncodingsConfig
from bridge.errors import DamagedError, NotPublishedError, TreeError
from bridge.oci import OCI_INDEX, Descriptor, Digest, Repository
from bridge.registry import ready
from bridge.registry.access import readable, reader_of
from bridge.registry.blobs import send_blob, send_encoding, takes_encoding
from bridge.registry.errors import COMMON, Problem, RegistryError, error_response
from bridge.registry.headers import REVALIDATE, About, immutable, not_modified, of_manifest
from bridge.registry.mirrors import candidates
from bridge.registry.negotiation import accepts
from bridge.registry.paging import link, page
from bridge.registry.remembering import is_short
from bridge.registry.request import Base, BlobOf, Catalog, ManifestOf, ReferrersOf, Tags, parse
from bridge.tree.reader import TreeReader, View

log = logging.getLogger(__name__)


_Wanted = tuple[str, str, bool]
"""A request's target, its `Accept`, and whether its reader is nameless: what an answer depends on beside the tree."""

_KNOWN = 2048
"""Answers that are remembered; beyond that, all are found again."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The manifest that answered a request, and the view in which it was found."""

    repository: Repository
    view: View
    digest: Digest
    about: About


class Registry:
    """Answers requests from one tree. Its `handle` is what an aiohttp server calls.

    `encodings` says which clients get encodings of blobs. `damaged` is told the digest of what is asked for and not
    served, since its bytes are not those of its digest.
    """

    def __init__(
        self, tree: TreeReader, encodings: EncodingsConfig, damaged: Callable[[str], None] = lambda _digest: None
    ) -> None:
        self._tree = tree
        self._encodings = encodings
        self._damaged = damaged
        self._known: dict[_Wanted, _Known] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every error becomes OCI error JSON here. Raises ConnectionError, for aiohttp."""
        try:
            return await self._answer(request)
        except RegistryError as error:
            return error_response(error)
        except ConnectionError:
            raise
        except (TreeError, OSError) as error:
            log.error("tree cannot be read path=%r error=%r", request.path, str(error))  # noqa: TRY400
            if isinstance(error, DamagedError):
                self._damaged(error.digest)
            return error_response(RegistryError(Problem.FAILED))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise RegistryError(Problem.READ_ONLY, {"method": request.method}, {"Allow": "GET, HEAD"})
        match parse(request.raw_path):
            case ManifestOf() as asked:
                return self._manifest(request, asked)
            case BlobOf() as asked:
                return await self._blob(request, asked)
            case Base():
                return _json({})
            case Tags() as asked:
                return self._tags(request, asked)
            case Catalog(part):
                names, more = page(filter(reader_of(request).may_read, self._tree.repositories()), part)
                return _json({"repositories": names}, link("/v2/_catalog", part, names) if more else {})
            case ReferrersOf() as asked:
                return self._referrers(request, asked)

    def _find(self, request: web.BaseRequest, asked: Tags | ManifestOf | BlobOf) -> tuple[Repository, View]:
        """Return the repository that is meant, which may be a mirrored one, and what it shows."""
        for repository in _candidates(request, asked):
            try:
                return repository, self._tree.view(repository)
            except NotPublishedError:
                continue
        raise RegistryError(Problem.NAME_UNKNOWN, {"name": asked.repository.name})

    def _tags(self, request: web.BaseRequest, asked: Tags) -> web.Response:
        _, view = self._find(request, asked)
        name = asked.repository.name
        tags, more = page((tag.name for tag in view.tags), asked.part)
        headers = link(f"/v2/{name}/tags/list", asked.part, tags, asked.namespace) if more else {}
        return _json({"name": name, "tags": tags}, headers)

    def _remembered(self, request: web.BaseRequest, wanted: _Wanted) -> web.StreamResponse | None:
        """Answer with a manifest as the last time, where its repository is still the same."""
        known = self._known.get(wanted)
        if known is None or not reader_of(request).may_read(known.repository.name):
            return None
        try:
            if self._tree.view(known.repository) is not known.view:
                return None
            content = self._tree.read(known.repository, known.digest)
        except NotPublishedError:
            return None
        return not_modified(request, known.about.headers) or ready.answer(request, known.about, content)

    def _manifest(self, request: web.BaseRequest, asked: ManifestOf) -> web.StreamResponse:
        accept = ",".join(request.headers.getall("Accept", ()))
        wanted = (request.raw_path, accept, reader_of(request).user is None)
        if again := self._remembered(request, wanted):
            return again
        repository, view = self._find(request, asked)
        descriptor = _pick(view, asked)
        about = of_manifest(descriptor, immutable(request) if isinstance(asked.reference, Digest) else REVALIDATE)
        if not accepts(accept, descriptor.media_type):
            detail = {"mediaType": descriptor.media_type, "digest": str(descriptor.digest)}
            raise RegistryError(Problem.MANIFEST_EXCLUDED, detail, {"Vary": "Accept"})
        if unchanged := not_modified(request, about.headers):
            return unchanged
        try:
            content = self._tree.read(repository, descriptor.digest)
        except NotPublishedError as error:  # swept since the index was read: a pull that took longer than the grace
            raise RegistryError(Problem.MANIFEST_UNKNOWN, {"digest": str(descriptor.digest)}) from error
        # What is found under another name, or is not, may come under its own; and a Host header decides for its sender.
        if repository == asked.repository and asked.namespace != request.host and is_short(request.raw_path, accept):
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[wanted] = _Known(repository, view, descriptor.digest, about)
        return ready.answer(request, about, content)

    async def _blob(self, request: web.BaseRequest, asked: BlobOf) -> web.StreamResponse:
        source = self._open(request, asked)
        if isinstance(source, bytes):
            return await send_blob(request, source, asked.digest)
        with source:
            encoding = self._encoding(request, asked.digest)
            if encoding is None:
                return await send_blob(request, source, asked.digest)
        with encoding:
            return await send_encoding(request, encoding, asked.digest)

    def _encoding(self, request: web.BaseRequest, digest: Digest) -> BinaryIO | None:
        return self._tree.encoding(digest) if takes_encoding(request, self._encodings) else None

    def _open(self, request: web.BaseRequest, asked: BlobOf) -> bytes | BinaryIO:
        for repository in _candidates(request, asked):
            with contextlib.suppress(NotPublishedError):
                return self._tree.blob(repository, asked.digest)
        self._find(request, asked)
        raise RegistryError(Problem.BLOB_UNKNOWN, {"digest": str(asked.digest)})

    def _referrers(self, request: web.BaseRequest, asked: ReferrersOf) -> web.Response:
        """Answer with the referrers of a digest: never 404, also where there is no such manifest or repository.

        https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
        """
        found: tuple[Descriptor, ...] = ()
        for repository in _candidates(request, asked):
            try:
                found = self._tree.referrers(repository, asked.subject)
                break
            except NotPublishedError:
                continue
        if asked.artifact_type:
            found = tuple(item for item in found if item.artifact_type == asked.artifact_type)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [item.to_json() for item in found]}
        filters = {"OCI-Filters-Applied": "artifactType"} if asked.artifact_type else {}
        return _json(index, {"Content-Type": OCI_INDEX, **filters})


def _candidates(request: web.BaseRequest, asked: Tags | ManifestOf | BlobOf | ReferrersOf) -> Iterator[Repository]:
    """Yield the repositories that a request can mean and may read; raise RegistryError where it may not."""
    return readable(request, candidates(asked.repository, asked.namespace, request.host))


def _pick(view: View, asked: ManifestOf) -> Descriptor:
    if isinstance(asked.reference, Digest):
        descriptor = view.manifests.get(asked.reference)
    else:
        descriptor = view.tags.get(asked.reference)
    if descriptor is None:
        detail = {"name": asked.repository.name, "reference": str(asked.reference)}
        raise RegistryError(Problem.MANIFEST_UNKNOWN, detail)
    return descriptor


def _json(value: object, headers: dict[str, str] | None = None) -> web.Response:
    common = {"Content-Type": "application/json", "Cache-Control": REVALIDATE, **COMMON}
    return web.Response(body=msgspec.json.encode(value), headers=common | (headers or {}))
