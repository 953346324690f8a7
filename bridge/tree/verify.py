"""Checking a tree offline: every byte is hashed again, every reference followed."""

from collections.abc import Callable, Iterator
from pathlib import Path

from bridge.errors import InvalidError, TreeError
from bridge.oci import Digest, Repository
from bridge.tree import disk, encodings
from bridge.tree.contents import check_version, closure, read_index, repositories
from bridge.tree.paths import TreePaths


def verify(root: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Iterator[str]:
    """Yield every fault of the tree in words. Reads only; may run beside a publisher.

    `progress` is told the bytes hashed and the bytes in all. Raises TreeError where `root` is no tree.
    """
    paths = TreePaths(root)
    check_version(paths, new=False)
    yield from _blobs(paths, progress)
    yield from _encodings(paths)
    for repository in repositories(paths):
        yield from _repository(paths, repository)


def _blobs(paths: TreePaths, progress: Callable[[int, int], None]) -> Iterator[str]:
    files = sorted(paths.blobs / name for name in disk.names(paths.blobs))
    total = sum(path.stat().st_size for path in files if path.exists())
    done = 0
    for path in files:
        try:
            digest, size = disk.hash_file(path)
        except FileNotFoundError:
            continue  # swept while this ran
        except OSError as error:
            yield f"blob {path.name}: {error.strerror}"
            continue
        if digest.hex != path.name:
            yield f"blob {path.name}: its bytes have digest {digest}"
        done += size
        progress(done, total)


def _encodings(paths: TreePaths) -> Iterator[str]:
    for name in sorted(disk.names(paths.encodings)):
        try:
            whole = encodings.is_whole(paths.encodings / name)
        except FileNotFoundError:
            continue  # made room for another while this ran
        except OSError as error:
            yield f"encoding gzip/{name}: {error.strerror}"
            continue
        if not whole:
            yield f"encoding gzip/{name}: it is not blob sha256:{name}; remove the file, and it is made again"


def _repository(paths: TreePaths, repository: Repository) -> Iterator[str]:
    try:
        index = read_index(paths, repository)
    except FileNotFoundError:
        return  # withdrawn while this ran
    except TreeError as error:
        yield str(error)
        return
    for descriptor in index.descriptors:
        try:
            for digest in closure(paths, descriptor):
                yield from _link(paths, repository, digest)
        except (TreeError, InvalidError) as error:
            yield f"repository {repository}: manifest {descriptor.digest}: {error}"


def _link(paths: TreePaths, repository: Repository, digest: Digest) -> Iterator[str]:
    link = paths.repository(repository).blob(digest)
    if not link.exists():
        yield f"repository {repository}: lacks blob {digest}"
    elif not link.samefile(paths.blob(digest)):
        yield f"repository {repository}: blob {digest} is not the tree's"
