"""Reading a tree: what a registry needs, with no lock, no podman and no publisher.

Nothing that may change is remembered longer than its file stays the same: every look asks the file
system whether `index.json` was replaced, so a publication is visible at the moment of its rename.
What a digest names cannot change, and is kept in memory. Manifests and small blobs are hashed as they are read: bytes
that are not what their digest names are never handed out.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from bridge.errors import DamagedError, InvalidError, NotPublishedError, TreeError
from bridge.oci import Descriptor, Digest, Manifest, Reference, Repository, Tag
from bridge.tree.contents import listed
from bridge.tree.index import Index
from bridge.tree.memory import Memory
from bridge.tree.paths import TreePaths
from bridge.untrusted_json import decode

log = logging.getLogger(__name__)

_CACHED = 4096
"""Repositories whose parsed index is kept; beyond that, all are read again."""

_MEMORY = 8 * 1024 * 1024
"""Bytes of manifests and small blobs that are kept."""

_SMALL = 64 * 1024
"""Bytes up to which a blob is read into memory at once: less than a thread hop, or a sendfile, costs."""

_LONGEST = 64 * 1024 * 1024
"""Bytes of the longest catalog that is read."""

_Stamp = tuple[int, int, int]

Referrers = Mapping[Digest, tuple[Descriptor, ...]]
"""For each subject the manifests that refer to it."""


@dataclass(frozen=True, slots=True)
class View:
    """What a repository hands out: its tags, and every manifest by digest with its media type."""

    tags: Mapping[Tag, Descriptor]
    manifests: Mapping[Digest, Descriptor]


@dataclass(slots=True)
class _Seen:
    """A repository's view as of `stamp`, and what was derived from it when it was first asked for."""

    stamp: _Stamp
    view: View
    referrers: Referrers | None = None


class _Catalog(msgspec.Struct):
    repositories: list[str]


class TreeReader:
    """Reads a tree. Raises NotPublishedError for what is not there, TreeError for what is broken.

    DamagedError, which is one, names a blob whose bytes are not its own.
    """

    def __init__(self, root: Path) -> None:
        self._paths = TreePaths(root)
        self._places = str(self._paths.repositories)
        self._seen: dict[Repository, _Seen] = {}
        self._memory = Memory(_MEMORY)
        self._has_catalog = True

    def view(self, repository: Repository) -> View:
        """Return what the repository hands out at this moment."""
        return self._look(repository).view

    def _look(self, repository: Repository) -> _Seen:
        path = f"{self._places}/{repository.name}/_oci/index.json"
        try:
            stamp = _stamp(os.stat(path))  # noqa: PTH116 # at every request: a Path costs ten times the call
            known = self._seen.get(repository)
            if known is not None and known.stamp == stamp:
                return known
            seen = self._read_index(repository, Path(path))
        except (FileNotFoundError, NotADirectoryError):
            self._seen.pop(repository, None)
            msg = f"repository {repository} is not published"
            raise NotPublishedError(msg) from None
        if len(self._seen) >= _CACHED:
            self._seen.clear()
        self._seen[repository] = seen
        return seen

    def _read_index(self, repository: Repository, path: Path) -> _Seen:
        """Read the index anew, and once more where a sweep took a list's blob between the two reads."""
        for last in (False, True):
            with path.open("rb") as file:
                stamp, content = _stamp(os.fstat(file.fileno())), file.read()
            try:
                return _Seen(stamp, self._parse(repository, content))
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

    def referrers(self, repository: Repository, subject: Digest) -> tuple[Descriptor, ...]:
        """Return every manifest of the repository that refers to `subject`, which need not be there.

        Each descriptor carries the manifest's own annotations and artifact type.
        """
        seen = self._look(repository)
        if seen.referrers is None:
            seen.referrers = self._find_referrers(repository, seen.view)
        return seen.referrers.get(subject, ())

    def blob(self, repository: Repository, digest: Digest) -> bytes | BinaryIO:
        """Return a blob that the repository holds: a small one's bytes, a large one's file, which the caller closes."""
        path = self._blob(repository, digest)
        content = self._memory.get(digest)
        try:
            if content is not None:
                os.stat(path)  # noqa: PTH116 # as above: does this repository hold it?
                return content
            file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 # may be the caller's to close
        except (FileNotFoundError, NotADirectoryError):
            msg = f"repository {repository} has no blob {digest}"
            raise NotPublishedError(msg) from None
        if os.fstat(file.fileno()).st_size > _SMALL:
            return file
        with file:
            return self._checked(digest, file.read())

    def _checked(self, digest: Digest, content: bytes) -> bytes:
        """Return what a blob's file holds, and keep it; raise DamagedError if that is not what its digest names."""
        if not digest.matches(content):
            raise DamagedError(str(digest))
        self._memory.put(digest, content)
        return content

    def encoding(self, digest: Digest) -> BinaryIO | None:
        """Return the open gzip encoding of a blob, for the caller to close; None where there is none.

        Whether the repository holds the blob is asked first. An encoding may go at any time, so there
        is no look before the open, and the blob itself is always as good.
        """
        if digest.algorithm != "sha256":
            return None
        try:
            return open(self._paths.encodings / digest.hex, "rb", buffering=0)  # noqa: PTH123 # the caller closes it
        except OSError:
            return None

    def read(self, repository: Repository, digest: Digest) -> bytes:
        """Return the bytes of a manifest, from memory if it was read before.

        Whether the repository hands it out is the view's to say, and is asked first.
        """
        content = self._memory.get(digest)
        if content is None:
            try:
                content = Path(self._blob(repository, digest)).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                msg = f"repository {repository} has no blob {digest}"
                raise NotPublishedError(msg) from None
            return self._checked(digest, content)
        return content

    def _blob(self, repository: Repository, digest: Digest) -> str:
        return f"{self._places}/{repository.name}/_oci/blobs/{digest.algorithm}/{digest.hex}"

    def repositories(self) -> list[str]:
        """Return the names of all repositories that show a tag, in order.

        If their list is lost or damaged, it is made of the indexes, each time, until a publisher writes it again.
        """
        try:
            content = self._paths.catalog.read_bytes()
            names = decode(content, "the catalog", _Catalog, limit=_LONGEST).repositories
        except (OSError, InvalidError) as error:
            names = listed(self._paths)
            if self._has_catalog and names:
                log.warning("catalog is damaged, made of the indexes path=%s error=%r", self._paths.catalog, str(error))
            self._has_catalog = not names
            return names
        self._has_catalog = True
        return names

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
            for member in self._members(repository, descriptor.digest):
                self._collect(repository, member, into)

    def _members(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the members of a list; none of one that is damaged, which fails when it is asked for."""
        try:
            return Manifest.parse(self.read(repository, digest)).manifests
        except DamagedError:
            return ()

    def _find_referrers(self, repository: Repository, view: View) -> Referrers:
        found: dict[Digest, tuple[Descriptor, ...]] = {}
        for digest, descriptor in view.manifests.items():
            try:
                manifest = Manifest.parse(self.read(repository, digest))
            except (NotPublishedError, DamagedError, InvalidError):
                continue  # swept since; or damaged; or a member of a kind that has no subject
            if manifest.subject is not None:
                subject = manifest.subject.digest
                found[subject] = (*found.get(subject, ()), manifest.refer(descriptor))
        return found


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size
