"""Checking a tree offline: every byte is hashed again, every reference followed; and repairing it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import InvalidError, TreeError
from bridge.oci import Descriptor, Digest, Repository
from bridge.tree import disk, encodings
from bridge.tree.contents import check_version, closure, read_index, repositories
from bridge.tree.measure import measure
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a tree, in words.

    `blob` is what has to be exported anew, `file` what only has to be removed: opening the tree, or a pass over
    the encodings, makes it again.
    """

    words: str
    blob: Digest | None = None
    file: Path | None = None

    def __str__(self) -> str:
        return self.words


def verify(root: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Iterator[Fault]:
    """Yield every fault of the tree. Reads only; may run beside a publisher.

    `progress` is told the bytes hashed and the bytes in all. Raises TreeError where `root` is no tree.
    """
    paths = TreePaths(root)
    check_version(paths, new=False)
    yield from _blobs(paths, progress)
    yield from _encodings(paths)
    for repository in repositories(paths):
        yield from _repository(paths, repository)


def repair(root: Path, faults: Sequence[Fault]) -> None:
    """Take out what is damaged, and mend what can be mended here: the next pass publishes the rest anew.

    Raises LockedError where a publisher has the tree.
    """
    with Tree(root) as tree:
        for fault in faults:
            if fault.file is not None:
                fault.file.unlink(missing_ok=True)
        tree.discard(fault.blob for fault in faults if fault.blob is not None)


def _blobs(paths: TreePaths, progress: Callable[[int, int], None]) -> Iterator[Fault]:
    files = sorted(paths.blobs / name for name in disk.names(paths.blobs))
    total, done = measure(paths).blobs.size, 0
    for path in files:
        try:
            digest, size = disk.hash_file(path)
        except FileNotFoundError:
            continue  # swept while this ran
        except OSError as error:
            yield Fault(f"blob {path.name}: {error.strerror}", _named(path))
            continue
        if digest.hex != path.name:
            yield Fault(f"blob {path.name}: its bytes have digest {digest}", _named(path))
        done += size
        progress(done, total)


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


def _repository(paths: TreePaths, repository: Repository) -> Iterator[Fault]:
    try:
        index = read_index(paths, repository)
    except FileNotFoundError:
        return  # withdrawn while this ran
    except TreeError as error:
        yield Fault(str(error))
        return
    for descriptor in index.descriptors:
        faults = list(_manifest(paths, repository, descriptor))
        if faults and _names(paths, repository, descriptor):
            yield from faults


def _manifest(paths: TreePaths, repository: Repository, descriptor: Descriptor) -> Iterator[Fault]:
    try:
        for digest in closure(paths, descriptor):
            link = paths.repository(repository).blob(digest)
            if not link.exists():
                yield Fault(f"repository {repository}: lacks blob {digest}")
            elif not link.samefile(paths.blob(digest)):
                yield Fault(f"repository {repository}: blob {digest} is not the tree's", file=link)
    except (TreeError, InvalidError, FileNotFoundError) as error:
        yield Fault(f"repository {repository}: manifest {descriptor.digest}: {error}")


def _names(paths: TreePaths, repository: Repository, descriptor: Descriptor) -> bool:
    """Say whether a repository still names a manifest: its index is replaced before a sweep takes anything of it."""
    try:
        return descriptor in read_index(paths, repository).descriptors
    except FileNotFoundError:
        return False  # withdrawn while this ran
    except TreeError:
        return True
