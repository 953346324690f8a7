"""Writing a tree. One process at a time, held apart by the lock; every change is one rename.

What is remembered of the indexes is what the disk said last: after a write that failed it is read again, and whatever
deletes reads it first (docs/decisions/0033-deletion-trusts-the-disk.md).
"""

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from bridge.errors import BridgeError, InvalidError, NotPublishedError, TreeError, UndecidedError
from bridge.fence import Fence
from bridge.oci import Descriptor, Digest, Reference, Repository
from bridge.plan import Publication, Shown, Source
from bridge.tree import disk, linking, setting_aside, views
from bridge.tree.ages import Ages
from bridge.tree.closures import Closures
from bridge.tree.contents import catalog, check_version, directories, own, read_index, repositories, showing
from bridge.tree.index import Index, Superseded
from bridge.tree.indexes import Indexes
from bridge.tree.layouts import LAYOUT
from bridge.tree.paths import FORMAT_VERSION, RepositoryPaths, TreePaths
from bridge.tree.sweeping import Leaving, Sweep, Swept, prune

log = logging.getLogger(__name__)

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})
"""What a disk says that can be read and not be written, for good or until it has room."""

_SMALL = 1 << 20
"""Bytes up to which a blob is read again when it comes once more: every config, and nearly every manifest."""


class Tree:
    """The publisher's side of a tree. Every method blocks; no write is safe beside another one.

    Raises TreeError, and OSError with the path where the disk itself fails. A tree that can only be read is refused,
    unless `read_only` allows it: then it shows what is there, and each write tries to take the lock first.

    `_indexes` has every repository that could be read; `_unread` those whose index on the disk is not known, of which
    `_damaged` have one that no second look will read;
    `_underived` those whose views may be behind; `_unsettled` those whose index may not have its name on the disk.
    `_staged` are the staging directories in use.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.paths = TreePaths(root.absolute())
        self.is_writable = False
        self._read_only = read_only
        self._lock = disk.Lock(self.paths.lock)
        self._indexes = Indexes()
        self._closures = Closures(self.paths)
        self._ages = Ages()
        self._unread: set[Repository] = set()
        self._damaged: set[Repository] = set()
        self._underived: set[Repository] = set()
        self._fence = Fence()
        self._unsettled: set[Repository] = set()
        self._staged: set[str] = set()
        self._taking = threading.Lock()

    def __enter__(self) -> Self:
        """Take the lock, empty staging, read every index, mend what lost a link, and rebuild what is derived."""
        try:
            self._prepare()
        except OSError as error:
            if self._read_only and error.errno in _READ_ONLY and self.paths.version.exists():
                self._read()
                return self
            msg = f"cannot use {error.filename2 or error.filename or self.paths.root} as a tree: {error.strerror}"
            raise TreeError(msg) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _prepare(self) -> None:
        """Make everything ready to write; the lock is held if this returns."""
        disk.make_directory(self.paths.root)
        check_version(self.paths, new=True)
        self._lock.acquire()
        try:
            self._make_ready()
        except (OSError, TreeError):
            self._lock.release()
            raise
        self.is_writable = True

    def _make_ready(self) -> None:
        for directory in (self.paths.staging, self.paths.blobs, self.paths.repositories):
            disk.make_directory(directory)
        self._empty_staging()
        if not self.paths.version.exists():
            self._require_links()
            content = msgspec.json.encode({"version": FORMAT_VERSION})
            disk.write_atomically(self.paths.version, content, self.paths.staging)
        self._read()
        for repository in list(self._indexes):
            self._begin_with(repository)
        self._hide_leftovers()
        self._derive_catalog()

    def _begin_with(self, repository: Repository) -> None:
        """Mend a repository. If that fails, and not since nothing can be written here, the others are served."""
        try:
            with self._fence.around(f"repository {repository}"):
                self._mend(repository)
                self._derive(repository)
        except (BridgeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _READ_ONLY:
                raise
            self._underived.add(repository)
            log.error("repository cannot be mended repository=%s error=%r", repository, str(error))  # noqa: TRY400

    def _require_links(self) -> None:
        """Refuse a file system that cannot hold a tree; one without hard links can, at the price of copies."""
        probe = self.paths.staging / "probe"
        try:
            probe.symlink_to("nothing")
            probe.unlink()
        except OSError as error:
            if error.errno not in disk.UNLINKABLE:
                raise
            kind = disk.kind(self.paths.root) or "of this kind"
            msg = f"{self.paths.root} is on a file system {kind}, which has no symbolic links: a tree needs another one"
            raise TreeError(msg) from error

    def _read(self) -> None:
        check_version(self.paths, new=False)
        for repository in repositories(self.paths):
            self._reload(repository)

    def _hide_leftovers(self) -> None:
        """Remove what plain web servers would show of repositories that have no index; a sweep takes the rest."""
        for directory in list(directories(self.paths)):
            paths = RepositoryPaths(directory)
            if not paths.index.exists() and directory.exists():
                views.remove(paths)
                prune(self.paths, paths)

    def _reload(self, repository: Repository) -> None:
        """Have in memory what the disk says of a repository.

        A damaged index counts as empty, and is kept when it is written. If it cannot be read for another reason, it is
        noted, and read before it is written.
        """
        self._unread.add(repository)
        was_damaged = repository in self._damaged
        self._damaged.discard(repository)
        try:
            index = read_index(self.paths, repository)
        except FileNotFoundError:
            self._forget(repository)
        except TreeError as error:
            self._forget(repository)
            self._damaged.add(repository)
            if not was_damaged:
                log.error("index is damaged, its repository is published again error=%r", str(error))  # noqa: TRY400
            return
        except OSError as error:
            log.warning("index cannot be read, tried again before it is written error=%r", str(error))
            return
        else:
            self._remember(index)
        self._unread.discard(repository)

    def _forget(self, repository: Repository) -> None:
        if repository in self._indexes:
            del self._indexes[repository]

    def _remember(self, index: Index) -> None:
        self._indexes[index.repository] = index
        for old in index.superseded:
            self._ages.see(old.key, old.since)

    @contextlib.contextmanager
    def _writing(self, repository: Repository) -> Iterator[None]:
        """Change a repository in the block. If that fails, what the disk has of it then is read again."""
        self._require_writable()
        if repository in self._unread:
            self._reload(repository)
            if repository in self._unread - self._damaged:
                msg = f"the index of repository {repository} cannot be read now, and is not replaced"
                raise TreeError(msg)
        try:
            yield
        except NotPublishedError:
            raise
        except BaseException:
            self._reload(repository)
            self._underived.add(repository)
            self._unsettled.add(repository)
            raise

    def _require_writable(self) -> None:
        """Take the lock of a tree that could only be read before. Raises OSError where it still is so."""
        if not self.is_writable:
            self._prepare()
            log.info("tree can be written now tree=%s", self.paths.root)

    def _mend(self, repository: Repository) -> int:
        """Link again what was lost; return how many manifests had to be taken out."""
        index = self._index(repository)
        if index.everything:
            views.refresh(self.paths.repository(repository).layout / "oci-layout", LAYOUT, self.paths.staging)
        whole = linking.mend(self.paths, self._closures, index)
        lost = len(index.descriptors) - len(whole.descriptors)
        if lost:
            self._renew_links(repository)
            self._write(whole)
        return lost

    def _renew_links(self, repository: Repository) -> None:
        """Give the links of what leaves an index without having been superseded a grace of their own, from now on."""
        paths = self.paths.repository(repository)
        for algorithm in disk.names(paths.blobs):
            for name in disk.names(paths.blobs / algorithm):
                with contextlib.suppress(OSError):
                    (paths.blobs / algorithm / name).chmod(0o644)  # its age is that of its last change

    @property
    def undecided(self) -> list[str]:
        """What an operator has to decide about, in words: indexes that were damaged, and are kept."""
        return [setting_aside.words(self.paths, name) for name in setting_aside.kept(self.paths)]

    def set_damaged_aside(self) -> None:
        """Keep every damaged index elsewhere, so that its repository is without one."""
        self._require_writable()
        for repository in list(self._damaged):
            paths = self.paths.repository(repository)
            self._set_aside(repository)
            paths.index.unlink(missing_ok=True)
            disk.sync_directory(paths.layout)
            self._reload(repository)
        self._hide_leftovers()

    def _set_aside(self, repository: Repository) -> None:
        """Keep the index that is about to be replaced, if it could not be read."""
        if repository in self._damaged:
            setting_aside.set_aside(self.paths, repository)

    def discard(self, digests: Iterable[Digest]) -> int:
        """Remove blobs whose bytes are damaged, and every manifest that needs one: the next pass exports it again.

        Each is read once more, in all its places: what is right there takes the place of what is not. Return how many
        manifests had to be taken out.
        """
        self._require_writable()
        for digest in set(digests):
            for place in (self.paths.blob(digest), *(self._place(found, digest) for found in repositories(self.paths))):
                if disk.is_damaged(place, digest):
                    disk.remove(place)
        failures: list[BridgeError | OSError] = []
        lost = self._mend_all(list(self._indexes), failures)
        if failures:
            raise failures[0]
        return lost

    def _place(self, repository: Repository, digest: Digest) -> Path:
        return self.paths.repository(repository).blob(digest)

    def _mend_all(self, damaged: Iterable[Repository], failures: list[BridgeError | OSError]) -> int:
        """Mend each repository for itself; return how many manifests had to be taken out. Adds to `failures`."""
        lost = 0
        for repository in damaged:
            with self._fence.apart(f"repository {repository}", failures), self._writing(repository):
                lost += self._mend(repository)
                self._derive(repository)
        with self._fence.apart("the list of repositories", failures):
            self._derive_catalog()
        return lost

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
        another manifest to choose from. That the bytes are there is looked at, and what its repository has is put back.
        """
        alike = (item for item in self._indexes.of(source) if item.origins == origins)
        return next((item for item in alike if self._is_whole(item)), None)

    def _is_whole(self, publication: Publication) -> bool:
        spare = self.paths.repository(publication.reference.repository)
        try:
            for _ in self._closures.whole(publication.descriptor, spare if self.is_writable else None):
                pass
        except (TreeError, InvalidError, OSError):
            return False
        return True

    def own(self, source: Source) -> tuple[Descriptor, int] | None:
        """Return podman's own manifest of an image, and the bytes of all that it references, as `contents.own`."""
        return own(self._closures, self.paths, source)

    def has(self, digest: Digest) -> bool:
        """Return True if the tree holds the blob, with the size that it had when it came in and was verified."""
        return self._closures.has(digest)

    def size(self, descriptor: Descriptor) -> int:
        """Return the bytes of a manifest and everything it references; raise TreeError where a part is missing."""
        return self._closures.size(descriptor)

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        """Give a fresh directory on the tree's disk while the block runs, and remove it after.

        Blobs of the names that lie in it are safe from sweeps. What cannot be removed is left to the next sweep.
        """
        self._require_writable()
        path = Path(tempfile.mkdtemp(prefix="", dir=self.paths.staging))
        self._staged.add(path.name)
        try:
            yield path
        finally:
            self._staged.discard(path.name)
            _remove(path)

    def _empty_staging(self) -> None:
        """Remove all of staging that is not in use."""
        for name in set(disk.names(self.paths.staging)) - self._staged:
            _remove(self.paths.staging / name)

    def _staged_names(self) -> set[str]:
        """Return the names of all files in use in staging. What goes while this looks is in use no more."""
        paths = [self.paths.staging / name for name in list(self._staged)]
        return {name for path in paths for _, _, names in os.walk(path) for name in names}

    def adopt(self, file: Path, digest: Digest) -> None:
        """Link a verified file in as the blob `digest`, safe from sweeps as long as the file is staged. Idempotent.

        What is in its place with another size is damaged, and makes room; so does a small one with other bytes.
        """
        blob = self.paths.blob(digest)
        with self._taking:
            size = file.stat().st_size
            if disk.size(blob) == size and (size > _SMALL or not disk.is_damaged(blob, digest)):
                return
            file.chmod(0o644)
            disk.remove(blob)
            disk.link(file, blob)

    def lend(self, digest: Digest, place: Path) -> int:
        """Link a blob to a staged place, safe from sweeps as long as that is there; return its size in bytes.

        Podman only looks whether it is there, so a symbolic link does where no hard link can be made.
        """
        blob = self.paths.blob(digest)
        with self._taking:
            try:
                place.hardlink_to(blob)
            except OSError as error:
                if error.errno not in disk.UNLINKABLE:
                    raise
                place.symlink_to(blob)
            return place.stat().st_size

    def publish(self, publication: Publication) -> None:
        """Show the publication: link everything it references, then replace `index.json`.

        Raises TreeError where the tree lacks a blob that the manifest references.
        """
        repository = publication.reference.repository
        with self._writing(repository):
            self._show(publication)
        self._underived.add(repository)
        self._settle(repository)
        self._list({repository})

    @property
    def is_derived(self) -> bool:
        """Whether everything derived is what the indexes say, and these are on the disk for good."""
        return not self._underived

    def derive(self) -> None:
        """Make what is derived where that failed, though `index.json` was written. A second time does nothing.

        Each repository for itself: what fails is left to the next time, and raised when all others are done.
        """
        done: set[Repository] = self._underived & self._unread
        failures: list[BridgeError | OSError] = []
        for repository in self._underived - self._unread:
            with self._fence.apart(f"repository {repository}", failures):
                self._settle(repository)
                done.add(repository)
        self._list(done)
        if failures:
            raise failures[0]

    def _settle(self, repository: Repository) -> None:
        """Have an index on the disk for good, and what is derived from it."""
        layout = self.paths.repository(repository).layout
        if repository in self._unsettled and layout.exists():
            disk.sync_directory(layout)
        if repository in self._indexes:
            self._derive(repository)

    def _list(self, repositories: set[Repository]) -> None:
        """Make the list of all repositories, the last of what is derived from the indexes of these."""
        if repositories:
            self._derive_catalog()
        self._unsettled -= repositories
        self._underived -= repositories

    def _show(self, publication: Publication) -> None:
        repository = publication.reference.repository
        paths = self.paths.repository(repository)
        parts = list(self._closures.whole(publication.descriptor))
        disk.sync_directory(self.paths.blobs)
        linking.link(self.paths, paths, parts)
        views.refresh(paths.layout / "oci-layout", LAYOUT, self.paths.staging)
        if repository in self._unread:
            self._renew_links(repository)
        self._write(self._index(repository).publish(publication, _now()))

    def withdraw(self, reference: Reference, *, hold: bool = False) -> None:
        """Stop showing the reference; with `hold` keep it out until `release`.

        Its bytes stay for pulls by digest until a sweep. Raises NotPublishedError where there is
        nothing to withdraw or to hold.
        """
        with self._writing(reference.repository):
            index = self._index(reference.repository)
            if reference.tag not in index.publications and not hold:
                msg = f"{reference} is not published"
                raise NotPublishedError(msg)
            self._change(index.withdraw(reference.tag, _now(), hold=hold))

    def orphan(self, reference: Reference) -> None:
        """Note that a publication is kept although its image has gone."""
        with self._writing(reference.repository):
            self._write(self._index(reference.repository).orphan(reference.tag, _now()))

    def release(self, reference: Reference) -> None:
        """Let a held reference be published again. Does nothing where it is not held."""
        if not self.holds_out(reference):
            return
        with self._writing(reference.repository):
            self._change(self._index(reference.repository).release(reference.tag))

    def sweep(self, grace: float, *, dry_run: bool = False) -> Swept:
        """Remove what has been superseded for more than `grace` seconds, and blobs that no index references any more.

        Everything is decided from what the disk says now. A repository that cannot be read is left alone, and no blob
        is removed then; a TreeError names it when all others are swept. None is removed either while a damaged index is
        kept: UndecidedError says the ways out. If the disk has no room to change one, its own
        OSError is raised then. What lost a blob is mended, or taken out to be published again.
        """
        self._require_writable()
        if not dry_run:
            self._empty_staging()
        sweep = Sweep(self.paths, self._closures, self._ages, grace, self._fence)
        total = 0
        for leaving in sweep.look():
            done = dry_run
            with self._fence.apart(f"repository {leaving.repository}", sweep.failures):
                if not dry_run:
                    self._let_go(leaving)
                done = True
            if done:
                total += leaving.manifests
            else:
                sweep.stays(leaving)
        for repository in sweep.unread:
            self._reload(repository)
        sweep.undecided = self.undecided
        keeps = sweep.unknown or sweep.undecided
        blobs, freed = (0, 0) if keeps else self._remove_blobs(sweep, dry_run=dry_run)
        lost = 0
        if not dry_run:
            lost = self._mend_all(sweep.lacking, sweep.failures)
            with self._fence.apart("what is derived", sweep.failures):
                self.derive()
        sweep.end()
        if sweep.failures:
            raise sweep.failures[0]
        _require_known(sweep, lost)
        return Swept(total, blobs, freed, lost)

    def _remove_blobs(self, sweep: Sweep, *, dry_run: bool) -> tuple[int, int]:
        with self._taking:
            return sweep.remove_blobs(self._staged_names(), dry_run=dry_run)

    def _let_go(self, leaving: Leaving) -> None:
        if leaving.before != self._indexes.get(leaving.repository):
            self._reload(leaving.repository)
            self._underived.add(leaving.repository)
        if leaving.kept is None:
            views.remove(leaving.directory)
        elif leaving.kept != leaving.before or not leaving.kept:
            with self._writing(leaving.kept.repository):
                self._change(leaving.kept)
        for link in leaving.links:
            disk.remove(link)
        if leaving.links or not leaving.kept:
            prune(self.paths, leaving.directory)

    def _index(self, repository: Repository) -> Index:
        return self._indexes.get(repository) or Index(repository)

    def _change(self, index: Index) -> None:
        """Replace an index by one that shows less: what is derived goes first, the truth last. Links await a sweep."""
        paths = self.paths.repository(index.repository)
        if index:
            disk.make_directory(paths.layout)
            views.derive(paths, index, self.paths.staging)
            self._derive_catalog(index)
            self._write(index)
            return
        self._derive_catalog(index)
        views.remove(paths)
        paths.index.unlink(missing_ok=True)
        if paths.layout.exists():
            disk.sync_directory(paths.layout)  # or a power cut has it back, and not what it references
        self._forget(index.repository)
        prune(self.paths, paths)

    def _write(self, index: Index) -> None:
        path = self.paths.repository(index.repository).index
        self._set_aside(index.repository)
        disk.write_atomically(path, index.dump(), self.paths.staging)
        self._unread.discard(index.repository)
        self._damaged.discard(index.repository)
        self._unsettled.discard(index.repository)
        self._remember(index)

    def _derive(self, repository: Repository) -> None:
        views.derive(self.paths.repository(repository), self._index(repository), self.paths.staging)

    def _derive_catalog(self, coming: Index | None = None) -> None:
        """Write the list of all repositories; `coming` is an index that is about to be written."""
        indexes = dict(self._indexes) if coming is None else {**self._indexes, coming.repository: coming}
        names = [repository.name for repository, index in indexes.items() if index.publications]
        views.refresh(self.paths.catalog, catalog(names), self.paths.staging)


def _require_known(sweep: Sweep, lost: int) -> None:
    """Raise the error that says why no blob was removed, if that is so."""
    if sweep.undecided:
        raise UndecidedError("; ".join(sweep.undecided))
    if sweep.unknown and not lost:
        msg = f"{'; '.join(sweep.unknown)}; until that can be read no blob is removed: `podbridge verify --repair`"
        raise TreeError(msg)


def _remove(path: Path) -> None:
    """Remove something of staging, as far as the disk lets it go."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("staging cannot be emptied, the next sweep tries again path=%s error=%r", path, str(error))


def _now() -> float:
    """Return the time as `index.json` has it: to the millisecond, so that what is read back is the same."""
    return int(time.time() * 1000) / 1000
