"""The HTTP side of a tree: a request is parsed once, answered by one function, failed in one place."""

import asyncio
import logging
import os

import msgspec
from aiohttp import web

from bridge.errors import NotPublishedError, TreeError
from bridge.oci import Descriptor, Digest, Reference, Repository
from bridge.registry.errors import Code, RegistryError, error_response
from bridge.registry.request import Base, BlobOf, Catalog, ManifestOf, Tags, parse
from bridge.tree.reader import TreeReader

log = logging.getLogger(__name__)

_SMALL = 64 * 1024
"""Bytes up to which a blob is sent from memory, in one write with its headers."""


class Registry:
    """Answers requests from one tree. Its `handle` is what `aiohttp.web.Server` calls."""

    def __init__(self, tree: TreeReader) -> None:
        self._tree = tree

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every error becomes OCI error JSON here."""
        try:
            return await self._answer(request)
        except RegistryError as error:
            return error_response(error)
        except TreeError as error:
            log.error("tree is damaged path=%r error=%r", request.raw_path, str(error))  # noqa: TRY400
            return error_response(RegistryError(Code.UNKNOWN))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise RegistryError(Code.UNSUPPORTED, {"method": request.method}, {"Allow": "GET, HEAD"})
        match parse(request.raw_path):
            case Base():
                return _json({})
            case Catalog():
                return _json({"repositories": self._tree.repositories()})
            case Tags(repository):
                return self._tags(repository)
            case ManifestOf(repository, reference):
                if isinstance(reference, Digest):
                    return self._manifest(repository, self._by_digest(repository, reference))
                return self._manifest(repository, self._by_tag(Reference(repository, reference)))
            case BlobOf(repository, digest):
                return await self._blob(request, repository, digest)

    def _tags(self, repository: Repository) -> web.Response:
        try:
            tags = sorted(tag.name for tag in self._tree.view(repository).tags)
        except NotPublishedError:
            raise RegistryError(Code.NAME_UNKNOWN, {"name": repository.name}) from None
        return _json({"name": repository.name, "tags": tags})

    def _by_tag(self, reference: Reference) -> Descriptor:
        try:
            return self._tree.tagged(reference)
        except NotPublishedError:
            self._require(reference.repository)
            detail = {"name": reference.repository.name, "tag": reference.tag.name}
            raise RegistryError(Code.MANIFEST_UNKNOWN, detail) from None

    def _by_digest(self, repository: Repository, digest: Digest) -> Descriptor:
        try:
            return self._tree.manifest(repository, digest)
        except NotPublishedError:
            self._require(repository)
            detail = {"name": repository.name, "digest": str(digest)}
            raise RegistryError(Code.MANIFEST_UNKNOWN, detail) from None

    def _require(self, repository: Repository) -> None:
        try:
            self._tree.view(repository)
        except NotPublishedError:
            raise RegistryError(Code.NAME_UNKNOWN, {"name": repository.name}) from None

    def _manifest(self, repository: Repository, descriptor: Descriptor) -> web.Response:
        try:
            content = self._tree.read(repository, descriptor.digest)
        except NotPublishedError as error:  # swept since the index was read: a pull that took longer than the grace
            raise RegistryError(Code.MANIFEST_UNKNOWN, {"digest": str(descriptor.digest)}) from error
        return web.Response(body=content, headers=_content_headers(descriptor.media_type, descriptor.digest))

    async def _blob(self, request: web.BaseRequest, repository: Repository, digest: Digest) -> web.StreamResponse:
        try:
            file = self._tree.open(repository, digest)
        except NotPublishedError:
            self._require(repository)
            raise RegistryError(Code.BLOB_UNKNOWN, {"digest": str(digest)}) from None
        headers = _content_headers("application/octet-stream", digest)
        with file:
            size = os.fstat(file.fileno()).st_size
            if size <= _SMALL:
                return web.Response(body=file.read(), headers=headers)
            response = web.StreamResponse(headers=headers)
            response.content_length = size
            await response.prepare(request)
            if request.method == "GET" and request.transport is not None:
                await asyncio.get_running_loop().sendfile(request.transport, file)
            await response.write_eof()
            return response


def _content_headers(media_type: str, digest: Digest) -> dict[str, str]:
    return {
        "Content-Type": media_type,
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
        "Docker-Distribution-Api-Version": "registry/2.0",
    }


def _json(value: object) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        headers={"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"},
    )
