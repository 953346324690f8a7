"""Checking a tree offline: every byte is hashed again, every reference followed, every view compared; and repairing."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import InvalidError, TreeError
from bridge.oci import Descriptor, Digest, Repository
from bridge.tree import disk, encodings, setting_aside, views
from bridge.tree.closures import Closures, Part
from bridge.tree.contents import catalog, check_version, listed, read_index, repositories
from bridge.tree.index import Index
from bridge.tree.layouts import LAYOUT
from bridge.tree.measure import measure
from bridge.tree.paths import RepositoryPaths, TreePaths
from bridge.tree.publisher import Tree

_LOOKS = 5
"""Looks at a view that differs before it is a fault: a publisher writes the index first, and what is derived after."""

_PAUSE = 0.1
"""Seconds between two of them."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a tree, in words.

    `blob` is what has to be exported again, `file` what only has to be removed: opening the tree, or a pass over
    the encodings, makes it again.
    """

    words: str
    blob: Digest | None = None
    file: Path | None = None

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class Copies:
    """Blobs of repositories that are files of their own, where a hard link would take no room. `size` is in bytes."""

    files: int = 0
    size: int = 0


def verify(root: Path, progress: Progress = lambda _done, _total: None) -> Iterator[Fault]:
    """Yield every fault of the tree. Reads only; may run beside a publisher.

    `progress` is told the bytes hashed and the bytes in all. Raises TreeError where `root` is no tree.
    """
    paths = TreePaths(root)
    check_version(paths, new=False)
    yield from _blobs(paths, progress)
    yield from _encodings(paths)
    closures = Closures(paths)
    for repository in repositories(paths):
        yield from _repository(paths, closures, repository)
    for name in setting_aside.kept(paths):
        yield Fault(setting_aside.words(paths, name), file=paths.damaged / name)
    if _differs(lambda: not _has_catalog(paths)):
        yield Fault(f"view {paths.catalog.name} is not what the indexes say")


def copies(root: Path) -> Copies:
    """Count the blobs that repositories have as files of their own: after a copy of the tree without hard links."""
    paths = TreePaths(root)
    files = size = 0
    for place, blob in _places(paths):
        found = disk.size(place)
        if found >= 0 and not disk.is_same(place, blob):
            files, size = files + 1, size + found
    return Copies(files, size)


def repair(root: Path, faults: Iterable[Fault]) -> None:
    """Take out what is damaged, and mend what can be mended here: the next pass publishes the rest again.

    Everything is looked at once more under the lock. A damaged index is kept as `setting_aside` says, and given up by
    the next repair. What is a copy becomes a link where the file system has links. Raises LockedError where a publisher
    has the tree.
    """
    with Tree(root) as tree:
        for fault in faults:
            if fault.file is not None:
                disk.remove(fault.file)
        tree.set_damaged_aside()
        tree.discard(fault.blob for fault in faults if fault.blob is not None)


def _blobs(paths: TreePaths, progress: Progress) -> Iterator[Fault]:
    """Hash every blob of the tree, and of the repositories what is no link to it."""
    total, done = measure(paths).blobs.size + copies(paths.root).size, 0
    for path in sorted(paths.blobs / name for name in disk.names(paths.blobs)):
        yield from _blob(path, f"blob {path.name}")
        done += max(0, disk.size(path))
        progress(done, total)
    for place, blob in _places(paths):
        if not disk.is_same(place, blob):
            yield from _blob(place, f"blob {place}")
            done += max(0, disk.size(place))
            progress(done, total)


def _blob(path: Path, called: str) -> Iterator[Fault]:
    named = _named(path)
    if named is None:
        if os.path.lexists(path):
            yield Fault(f"{path} is no blob; --repair removes it", file=path)
        return
    try:
        digest, _ = disk.hash_file(path)
    except FileNotFoundError:
        return  # swept while this ran
    except OSError as error:
        yield Fault(f"{called}: {error.strerror}", named)
        return
    if digest.hex != path.name:
        yield Fault(f"{called}: its bytes have digest {digest}", named)


def _places(paths: TreePaths) -> Iterator[tuple[Path, Path]]:
    """Yield every blob of every repository, with the place of the same one in the tree."""
    for repository in repositories(paths):
        blobs = paths.repository(repository).blobs
        for name in disk.names(blobs / "sha256"):
            yield blobs / "sha256" / name, paths.blobs / name


def _named(path: Path) -> Digest | None:
    """Return the digest that a blob's name spells; None for a file that is no blob at all."""
    try:
        return Digest.parse(f"sha256:{path.name}")
    except InvalidError:
        return None


def _encodings(paths: TreePaths) -> Iterator[Fault]:
    for name in sorted(disk.names(paths.encodings)):
        file = paths.encodings / name
        try:
            whole = encodings.is_whole(file)
        except FileNotFoundError:
            continue  # made room for another while this ran
        except OSError as error:
            yield Fault(f"encoding gzip/{name}: {error.strerror}", file=file)
            continue
        if not whole:
            words = f"encoding gzip/{name}: it is not blob sha256:{name}; remove the file, and it is made again"
            yield Fault(words, file=file)


def _repository(paths: TreePaths, closures: Closures, repository: Repository) -> Iterator[Fault]:
    try:
        index = read_index(paths, repository)
    except FileNotFoundError:
        return  # withdrawn while this ran
    except TreeError as error:
        yield Fault(f"{error}; the next pass publishes the repository again, and the damaged file is kept")
        return
    for descriptor in index.descriptors:
        faults = list(_manifest(closures, paths.repository(repository), index, descriptor))
        if faults and _names(paths, repository, descriptor):
            yield from faults
    if index.everything and not _is_layout(paths.repository(repository)):
        yield Fault(f"repository {repository}: oci-layout is lost or damaged")
    for name in _views(paths, repository):
        yield Fault(f"repository {repository}: view {name} is not what its index says")


def _is_layout(repository: RepositoryPaths) -> bool:
    """Return True if OCI tools can read the layout, or it was withdrawn while this ran."""
    try:
        return (repository.layout / "oci-layout").read_bytes() == LAYOUT
    except OSError:
        return not repository.index.exists()


def _manifest(closures: Closures, repository: RepositoryPaths, index: Index, descriptor: Descriptor) -> Iterator[Fault]:
    try:
        for part in closures.whole(descriptor):
            yield from _link(repository, index, part)
    except (TreeError, InvalidError, FileNotFoundError) as error:
        yield Fault(f"repository {index.repository}: manifest {descriptor.digest}: {error}")


def _link(repository: RepositoryPaths, index: Index, part: Part) -> Iterator[Fault]:
    found = disk.size(repository.blob(part.digest))
    if found < 0:
        yield Fault(f"repository {index.repository}: lacks blob {part.digest}")
    elif found != part.size:
        words = f"repository {index.repository}: blob {part.digest} has {found} of {part.size} bytes"
        yield Fault(words, file=repository.blob(part.digest))


def _names(paths: TreePaths, repository: Repository, descriptor: Descriptor) -> bool:
    """Say whether a repository still names a manifest: its index is replaced before a sweep takes anything of it."""
    try:
        return descriptor in read_index(paths, repository).descriptors
    except FileNotFoundError:
        return False  # withdrawn while this ran
    except TreeError:
        return True


def _views(paths: TreePaths, repository: Repository) -> list[str]:
    """Return the views of a repository that differ from its index, and go on to."""
    found: list[str] = []

    def look() -> bool:
        found.clear()
        try:
            found.extend(views.faults(paths.repository(repository), read_index(paths, repository)))
        except (FileNotFoundError, TreeError):
            return False  # withdrawn while this ran; or damaged, which was said
        return bool(found)

    _differs(look)
    return found


def _has_catalog(paths: TreePaths) -> bool:
    try:
        return paths.catalog.read_bytes() == catalog(listed(paths))
    except OSError:
        return False


def _differs(look: Callable[[], bool]) -> bool:
    """Return True if something differs, and goes on to."""
    for last in range(_LOOKS):
        if not look():
            return False
        if last < _LOOKS - 1:
            time.sleep(_PAUSE)
    return True
