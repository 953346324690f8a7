"""Writing a tree. One process at a time, held apart by the lock; every change is one rename."""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from bridge.errors import BridgeError, NotPublishedError, TreeError
from bridge.fence import Fence
from bridge.oci import Descriptor, Digest, Reference, Repository
from bridge.plan import Publication, Shown, Source
from bridge.tree import disk, linking, views
from bridge.tree.contents import check_version, closure, directories, own, read_index, repositories, showing, size
from bridge.tree.index import Index, Superseded
from bridge.tree.indexes import Indexes
from bridge.tree.layouts import LAYOUT
from bridge.tree.paths import FORMAT_VERSION, RepositoryPaths, TreePaths
from bridge.tree.reader import catalog
from bridge.tree.sweeping import Swept, remove, sweep_blobs, unreferenced

log = logging.getLogger(__name__)


class Tree:
    """The publisher's side of a tree. Every method blocks; no write is safe beside another one.

    Raises TreeError, and OSError with the path where the disk itself fails.
    """

    def __init__(self, root: Path) -> None:
        self.paths = TreePaths(root.absolute())
        self._lock = disk.Lock(self.paths.lock)
        self._indexes = Indexes()
        self._underived: set[Repository] = set()
        self._fence = Fence()

    def __enter__(self) -> Self:
        """Take the lock, empty staging, read every index and rebuild what is derived."""
        try:
            self._prepare()
        except OSError as error:
            self._lock.release()
            msg = f"cannot use {error.filename or self.paths.root} as a tree: {error.strerror}"
            raise TreeError(msg) from error
        except TreeError:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _prepare(self) -> None:
        disk.make_directory(self.paths.root)
        check_version(self.paths, new=True)
        self._lock.acquire()
        if self.paths.staging.exists():
            shutil.rmtree(self.paths.staging)
        for directory in (self.paths.staging, self.paths.blobs, self.paths.repositories):
            disk.make_directory(directory)
        if not self.paths.version.exists():
            content = msgspec.json.encode({"version": FORMAT_VERSION})
            disk.write_atomically(self.paths.version, content, self.paths.staging)
        self._clear()
        for repository in repositories(self.paths):
            self._indexes[repository] = self._read_or_heal(repository)
            self._mend(repository)
            self._derive(repository)
        self._derive_catalog()

    def _clear(self) -> None:
        """Remove what a kill left of repositories that had no index yet, or none any more."""
        for directory in reversed(list(directories(self.paths))):
            paths = RepositoryPaths(directory)
            if directory.exists() and not paths.index.exists():
                remove(self.paths, paths)

    def _read_or_heal(self, repository: Repository) -> Index:
        """Read an index; a damaged one counts as empty, and the next pass publishes the repository anew."""
        try:
            return read_index(self.paths, repository)
        except TreeError as error:
            log.error("index is damaged, its repository is published anew error=%r", str(error))  # noqa: TRY400
            return Index(repository)

    def _mend(self, repository: Repository) -> None:
        index = self._index(repository)
        whole = linking.mend(self.paths, index)
        if whole != index:
            self._write(whole)

    def discard(self, digests: Iterable[Digest]) -> None:
        """Remove blobs whose bytes are damaged, and every manifest that needs one: the next pass exports it anew."""
        for digest in digests:
            for repository in self._indexes:
                self.paths.repository(repository).blob(digest).unlink(missing_ok=True)
            self.paths.blob(digest).unlink(missing_ok=True)
        for repository in list(self._indexes):
            self._mend(repository)
            self._derive(repository)
        self._derive_catalog()

    @property
    def shown(self) -> Shown:
        """Everything that is shown now, and what is held."""
        return showing(list(self._indexes.values()))

    @property
    def superseded(self) -> Iterator[Superseded]:
        """What is no longer shown, and stays for pulls under way."""
        for index in list(self._indexes.values()):
            yield from index.superseded

    def publication(self, reference: Reference) -> Publication | None:
        """Return what the reference shows; None where that is nothing."""
        return self._index(reference.repository).publications.get(reference.tag)

    def holds_out(self, reference: Reference) -> bool:
        """Say whether the reference was withdrawn to stay out."""
        return reference.tag in self._index(reference.repository).held

    def find(self, source: Source, origins: frozenset[Digest]) -> Publication | None:
        """Return a publication of the same source, shown or superseded, whose bytes are in the tree.

        An image that podman knows by other digests than it did was pulled again in another form, and has
        another manifest to choose from.
        """
        return next((item for item in self._indexes.of(source) if item.origins == origins), None)

    def own(self, source: Source) -> tuple[Descriptor, int] | None:
        """Return podman's own manifest of an image, and the bytes of all that it references, as `contents.own`."""
        return own(self.paths, source)

    def has(self, digest: Digest) -> bool:
        """Say whether the tree holds the blob. What it holds was verified when it came in."""
        return self.paths.blob(digest).exists()

    def size(self, descriptor: Descriptor) -> int:
        """Return the bytes of a manifest and everything it references; raise TreeError where a part is missing."""
        return size(self.paths, descriptor)

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        """Give a fresh directory on the tree's disk while the block runs, and remove it after."""
        path = Path(tempfile.mkdtemp(prefix="", dir=self.paths.staging))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def adopt(self, file: Path, digest: Digest) -> None:
        """Link a verified file in as the blob `digest`, safe from sweeps as long as the file is there. Idempotent."""
        if not self.has(digest):
            file.chmod(0o644)
            with contextlib.suppress(FileExistsError):  # another export was quicker
                os.link(file, self.paths.blob(digest))

    def publish(self, publication: Publication) -> None:
        """Show the publication: link everything it references, then replace `index.json`.

        Raises TreeError where the tree lacks a blob that the manifest references.
        """
        repository = publication.reference.repository
        try:
            self._show(publication)
        except Exception:
            if repository not in self._indexes:
                remove(self.paths, self.paths.repository(repository))  # no sweep comes to where no index is
            raise
        self._underived.add(repository)
        self.derive()

    @property
    def is_derived(self) -> bool:
        """Whether everything derived is what the indexes say."""
        return not self._underived

    def derive(self) -> None:
        """Make what is derived where that failed, though `index.json` was written. A second time does nothing."""
        for repository in self._underived & self._indexes.keys():
            self._derive(repository)
        if self._underived:
            self._derive_catalog()
        self._underived.clear()

    def _show(self, publication: Publication) -> None:
        repository = publication.reference.repository
        paths = self.paths.repository(repository)
        disk.sync_directory(self.paths.blobs)
        linking.link(self.paths, paths, closure(self.paths, publication.descriptor))
        if not (paths.layout / "oci-layout").exists():
            disk.write_atomically(paths.layout / "oci-layout", LAYOUT, self.paths.staging)
        self._write(self._index(repository).publish(publication, time.time()))

    def withdraw(self, reference: Reference, *, hold: bool = False) -> None:
        """Stop showing the reference; with `hold` keep it out until `release`.

        Its bytes stay for pulls by digest until a sweep. Raises NotPublishedError where there is
        nothing to withdraw or to hold.
        """
        index = self._index(reference.repository)
        if reference.tag not in index.publications and not hold:
            msg = f"{reference} is not published"
            raise NotPublishedError(msg)
        self._change(index.withdraw(reference.tag, time.time(), hold=hold))

    def orphan(self, reference: Reference) -> None:
        """Note that a publication is kept although its image has gone."""
        self._write(self._index(reference.repository).orphan(reference.tag, time.time()))

    def release(self, reference: Reference) -> None:
        """Let a held reference be published again. Does nothing where it is not held."""
        index = self._index(reference.repository)
        if reference.tag in index.held:
            self._change(index.release(reference.tag))

    def sweep(self, grace: float, *, dry_run: bool = False) -> Swept:
        """Remove what was superseded more than `grace` seconds ago, and blobs that nothing links any more.

        A damaged repository is left alone, and named by a TreeError when all others are swept; so is one that the
        disk has no room to change, for which the disk's own OSError is raised.
        """
        before = time.time() - grace
        total = 0
        leaving: Counter[str] = Counter()
        damaged: list[str] = []
        failures: list[OSError] = []
        for repository, index in list(self._indexes.items()):
            kept = index.sweep(before)
            try:
                with self._fence.around(f"repository {repository}"):
                    links = unreferenced(self.paths, kept)
                    if dry_run:
                        leaving.update(link.name for link in links)
                    else:
                        self._let_go(kept, links)
            except BridgeError as error:
                damaged.append(f"repository {repository}: {error}")
            except OSError as error:
                failures.append(error)
            else:
                total += len(index.superseded) - len(kept.superseded)
        blobs, freed = sweep_blobs(self.paths, before, None if not dry_run else leaving)
        if failures:
            raise failures[0]
        if damaged:
            msg = f"{'; '.join(damaged)}; a restart, or `podbridge verify --repair`, has it published anew"
            raise TreeError(msg)
        return Swept(total, blobs, freed)

    def _let_go(self, kept: Index, links: Iterable[Path]) -> None:
        if kept != self._index(kept.repository) or not kept:
            self._change(kept)
        for link in links:
            link.unlink(missing_ok=True)

    def _index(self, repository: Repository) -> Index:
        return self._indexes.get(repository) or Index(repository)

    def _change(self, index: Index) -> None:
        """Replace an index by one that shows less: first what is derived goes, then the truth."""
        before = self._index(index.repository)
        try:
            self._show_less(index)
        except Exception:
            self._indexes[index.repository] = before
            raise

    def _show_less(self, index: Index) -> None:
        paths = self.paths.repository(index.repository)
        self._indexes[index.repository] = index
        if index:
            disk.make_directory(paths.layout)
            self._derive(index.repository)
            self._derive_catalog()
            self._write(index)
        else:
            del self._indexes[index.repository]
            self._derive_catalog()
            remove(self.paths, paths)

    def _write(self, index: Index) -> None:
        path = self.paths.repository(index.repository).index
        disk.write_atomically(path, index.dump(), self.paths.staging)
        self._indexes[index.repository] = index

    def _derive(self, repository: Repository) -> None:
        views.derive(self.paths.repository(repository), self._index(repository), self.paths.staging)

    def _derive_catalog(self) -> None:
        names = [repository.name for repository, index in self._indexes.items() if index.publications]
        views.refresh(self.paths.catalog, catalog(names), self.paths.staging)
