"""Which links and blobs a tree no longer needs, by the disk alone (docs/decisions/0033-deletion-trusts-the-disk.md).

A link goes when the index of its repository does not reference it, a blob when no index does. Neither the number of
links of a file counts, nor what the publisher remembers.
"""

import contextlib
import os
import shutil
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import BridgeError, InvalidError, TreeError
from bridge.fence import Fence
from bridge.oci import Repository
from bridge.tree import disk, encodings
from bridge.tree.ages import Ages
from bridge.tree.closures import Closures, Part
from bridge.tree.contents import layouts, read_index
from bridge.tree.index import Index, Superseded
from bridge.tree.paths import RepositoryPaths, TreePaths


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, or would remove. `freed` is in bytes.

    `lost` are manifests that were taken out because a blob of theirs is lost in both its places.
    """

    manifests: int = 0
    blobs: int = 0
    freed: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Leaving:
    """What may go of one repository: what its index is then, and which links. `kept` is None where it has no index."""

    directory: RepositoryPaths
    repository: Repository
    before: Index | None
    kept: Index | None
    links: tuple[Path, ...]

    @property
    def manifests(self) -> int:
        """How many superseded manifests that are."""
        if self.before is None or self.kept is None:
            return 0
        return len(self.before.superseded) - len(self.kept.superseded)


@dataclass(slots=True)
class Sweep:
    """One look at the whole tree, under its lock.

    `needed` are the names of the blobs that stay, `released` of those that were referenced until now, `lacking` the
    repositories that reference what is not there, `unread` those whose index cannot be read. While `unknown` says what
    could not be read, or `undecided` which indexes are kept, no blob goes. `failures` are what failed of one thing, a
    repository or a blob, while all the others were swept.
    """

    paths: TreePaths
    closures: Closures
    ages: Ages
    grace: float
    fence: Fence
    needed: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    lacking: set[Repository] = field(default_factory=set)
    unread: set[Repository] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    failures: list[BridgeError | OSError] = field(default_factory=list)
    _sizes: dict[str, int] = field(default_factory=dict)
    _parts: dict[str, Part] = field(default_factory=dict)
    _keys: set[Hashable] = field(default_factory=set)

    def look(self) -> Iterator[Leaving]:
        """Yield what may go of each repository, found on the disk. If it cannot be removed, say so by `stays`.

        Of a repository that cannot be looked at nothing goes, and no blob at all.
        """
        with os.scandir(self.paths.blobs) as entries:
            for entry in entries:
                with self.fence.apart(f"blob {entry.name}", self.failures):
                    self._sizes[entry.name] = entry.stat().st_size
        for name in reversed(list(layouts(self.paths, lambda error: self.unknown.append(str(error))))):
            leaving = None
            with self._known(f"repository {name}"):
                leaving = self._look_into(name, RepositoryPaths(self.paths.repositories / name))
            if leaving is not None:
                yield leaving

    @contextlib.contextmanager
    def _known(self, thing: str) -> Iterator[None]:
        """Have a failure in the block say that it is unknown what the thing references."""
        try:
            with self.fence.around(thing):
                yield
        except (BridgeError, OSError) as error:
            self.unknown.append(f"{thing}: {error}")

    def _look_into(self, name: str, directory: RepositoryPaths) -> Leaving | None:
        try:
            repository = Repository(name)
        except InvalidError as error:
            self.unknown.append(f"{directory.root}: {error}")
            return None
        try:
            index = read_index(self.paths, repository)
        except FileNotFoundError:
            return Leaving(directory, repository, None, None, tuple(self._links(directory, set(), set())))
        except (TreeError, OSError) as error:
            self.unread.add(repository)
            self.unknown.append(str(error))
            return None
        kept = index.sweep(self._is_old)
        try:
            before = self._references(index, directory)
            after = before if kept is index else self._references(kept, directory)
        except (TreeError, InvalidError, OSError) as error:
            self.unknown.append(f"repository {name}: {error}")
            self.lacking.add(repository)
            return None
        self._require(repository, after)
        links = tuple(self._links(directory, before, after))
        self.released |= before
        self.needed |= after
        return Leaving(directory, repository, index, kept, links)

    def stays(self, leaving: Leaving) -> None:
        """Say that it could not be removed: all that its index references stays."""
        if leaving.before is not None:
            with self._known(f"repository {leaving.repository}"):
                self.needed |= self._references(leaving.before, leaving.directory)

    def _blobs(self, staged: set[str]) -> Iterator[os.DirEntry[str]]:
        """Yield the blobs that no index references, and no staging directory, whose names are `staged`.

        One that was referenced until now has had its grace. A directory that is another's work is left to `verify`.
        """
        with os.scandir(self.paths.blobs) as entries:
            for entry in entries:
                goes = False
                with self.fence.apart(f"blob {entry.name}", self.failures):
                    goes = self._may_go(entry, staged)
                if goes:
                    yield entry

    def _may_go(self, entry: os.DirEntry[str], staged: set[str]) -> bool:
        if entry.name in self.needed or entry.name in staged:
            return False
        return entry.name in self.released or (
            not entry.is_dir() and self._is_past(("blob", entry.name), entry.stat().st_mtime)
        )

    def remove_blobs(self, staged: set[str], *, dry_run: bool) -> tuple[int, int]:
        """Remove the blobs that may go, and their encodings; return how many, and the bytes that frees."""
        count = freed = 0
        for entry in self._blobs(staged):
            with self.fence.apart(f"blob {entry.name}", self.failures):
                size = entry.stat().st_size
                size += encodings.drop(self.paths, entry.name, dry_run=dry_run)
                if not dry_run:
                    disk.remove(Path(entry.path))
                count, freed = count + 1, freed + size
        return count, freed

    def end(self) -> None:
        """Forget what no repository references any more."""
        self.ages.keep(self._keys)
        if not self.unknown:
            self.closures.keep({part.digest for part in self._parts.values()})

    def _references(self, index: Index, directory: RepositoryPaths) -> set[str]:
        found = set()
        for descriptor in index.descriptors:
            for part in self.closures.parts(descriptor, directory):
                found.add(part.digest.hex)
                self._parts[part.digest.hex] = part
        return found

    def _require(self, repository: Repository, names: set[str]) -> None:
        if any(self._sizes.get(name) != self._parts[name].size for name in names):
            self.lacking.add(repository)

    def _links(self, directory: RepositoryPaths, before: set[str], after: set[str]) -> Iterator[Path]:
        """Yield the links that may go. The age of one that no index referenced is that of its last change."""
        blobs = str(directory.blobs)
        for algorithm in disk.names(blobs):
            for name in set(disk.names(f"{blobs}/{algorithm}")) - after:
                link = Path(blobs, algorithm, name)
                if name in before or (
                    not link.is_dir() and self._is_past((str(directory.root), name), link.lstat().st_ctime)
                ):
                    yield link
                else:
                    self.needed.add(name)

    def _is_old(self, old: Superseded) -> bool:
        return self._is_past(old.key, old.since)

    def _is_past(self, key: Hashable, since: float) -> bool:
        self._keys.add(key)
        return self.ages.see(key, since) > self.grace


def prune(paths: TreePaths, repository: RepositoryPaths) -> None:
    """Remove a directory that has neither an index nor a link, and those above it that are empty then."""
    if repository.index.exists() or any(
        any(disk.names(repository.blobs / name)) for name in disk.names(repository.blobs)
    ):
        return
    if repository.layout.exists():
        shutil.rmtree(repository.layout)
    directory = repository.root
    while directory != paths.repositories and not any(disk.names(directory)):
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()
        directory = directory.parent
