"""Reading a tree: what a registry needs, with no lock, no podman and no publisher.

Nothing that may change is remembered longer than its file stays the same: every look asks the file
system whether `index.json` was replaced, so a publication is visible at the moment of its rename.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from bridge.errors import InvalidError, NotPublishedError, TreeError
from bridge.oci import MAX_MANIFEST, Descriptor, Digest, Manifest, Reference, Repository, Tag
from bridge.tree.index import Index
from bridge.tree.paths import TreePaths

_CACHED = 4096
"""Repositories whose parsed index is kept; beyond that, all are read again."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class View:
    """What a repository hands out: its tags, and every manifest by digest with its media type."""

    tags: Mapping[Tag, Descriptor]
    manifests: Mapping[Digest, Descriptor]


class TreeReader:
    """Reads a tree. Raises NotPublishedError for what is not there, TreeError for what is broken."""

    def __init__(self, root: Path) -> None:
        self._paths = TreePaths(root)
        self._views: dict[Repository, tuple[_Stamp, View]] = {}

    def view(self, repository: Repository) -> View:
        """Return what the repository hands out at this moment."""
        path = self._paths.repository(repository).index
        try:
            stamp = _stamp(path.stat())
            known = self._views.get(repository)
            if known is not None and known[0] == stamp:
                return known[1]
            stamp, view = self._look(repository, path)
        except (FileNotFoundError, NotADirectoryError):
            self._views.pop(repository, None)
            msg = f"repository {repository} is not published"
            raise NotPublishedError(msg) from None
        if len(self._views) >= _CACHED:
            self._views.clear()
        self._views[repository] = stamp, view
        return view

    def _look(self, repository: Repository, path: Path) -> tuple[_Stamp, View]:
        """Read the index anew, and once more where a sweep took a list's blob between the two reads."""
        for last in (False, True):
            with path.open("rb") as file:
                stamp, content = _stamp(os.fstat(file.fileno())), file.read()
            try:
                return stamp, self._parse(repository, content)
            except NotPublishedError as error:
                if last:
                    msg = f"repository {repository} is damaged: {error}"
                    raise TreeError(msg) from error
        raise AssertionError

    def tagged(self, reference: Reference) -> Descriptor:
        """Return the manifest that the tag shows."""
        try:
            return self.view(reference.repository).tags[reference.tag]
        except KeyError:
            msg = f"{reference} is not published"
            raise NotPublishedError(msg) from None

    def manifest(self, repository: Repository, digest: Digest) -> Descriptor:
        """Return the descriptor of a manifest of the repository: a tagged one, a member, a superseded one."""
        try:
            return self.view(repository).manifests[digest]
        except KeyError:
            msg = f"repository {repository} has no manifest {digest}"
            raise NotPublishedError(msg) from None

    def open(self, repository: Repository, digest: Digest) -> BinaryIO:
        """Open a blob that the repository holds; the caller closes it."""
        try:
            return self._paths.repository(repository).blob(digest).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            msg = f"repository {repository} has no blob {digest}"
            raise NotPublishedError(msg) from None

    def read(self, repository: Repository, digest: Digest) -> bytes:
        """Return the bytes of a manifest."""
        with self.open(repository, digest) as file:
            return file.read(MAX_MANIFEST)

    def repositories(self) -> list[str]:
        """Return the names of all repositories that show a tag, in order."""
        try:
            names = msgspec.json.decode(self._paths.catalog.read_bytes(), type=dict[str, list[str]])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            msg = f"{self._paths.catalog} is damaged: {error}"
            raise TreeError(msg) from error
        return names["repositories"]

    def _parse(self, repository: Repository, content: bytes) -> View:
        try:
            index = Index.parse(repository, content)
            manifests: dict[Digest, Descriptor] = {}
            for descriptor in index.descriptors:
                self._collect(repository, descriptor, manifests)
        except InvalidError as error:
            raise TreeError(str(error)) from error
        return View({tag: item.descriptor for tag, item in index.publications.items()}, manifests)

    def _collect(self, repository: Repository, descriptor: Descriptor, into: dict[Digest, Descriptor]) -> None:
        if descriptor.digest in into:
            return
        into[descriptor.digest] = descriptor
        if descriptor.is_index:
            for member in Manifest.parse(self.read(repository, descriptor.digest)).manifests:
                self._collect(repository, member, into)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size


def catalog(names: list[str]) -> bytes:
    """Return the bytes of the derived list of repositories."""
    return msgspec.json.encode({"repositories": sorted(names)})
