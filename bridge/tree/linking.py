"""A repository's own links to the blobs of the tree: made for what is published, and mended where one was lost.

A link of another file with the same name, as in a tree that was copied without hard links, is a copy: it is as good
to read, and is replaced by a link where that can be made. Nothing is ever concluded from a number of links.
"""

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from bridge.errors import DamagedError, InvalidError, TreeError
from bridge.tree import disk
from bridge.tree.closures import Closures, Part
from bridge.tree.index import Index
from bridge.tree.paths import RepositoryPaths, TreePaths

log = logging.getLogger(__name__)


def link(paths: TreePaths, repository: RepositoryPaths, parts: Iterable[Part]) -> None:
    """Have blobs of the tree in a repository, and their names on the disk."""
    changed: set[Path] = set()
    own, common = str(repository.blobs), str(paths.root / "blobs")
    for part in parts:
        algorithm, name = part.digest.algorithm, part.digest.hex
        if not disk.is_same(f"{own}/{algorithm}/{name}", f"{common}/{algorithm}/{name}"):
            place = repository.blob(part.digest)
            disk.make_directory(place.parent)
            _place(paths, part, place)
            changed.add(place.parent)
    for directory in changed:
        disk.sync_directory(directory)


def _place(paths: TreePaths, part: Part, place: Path) -> None:
    """Link a blob to its place, over what else is there; a copy of its size stays where no link can be made."""
    blob, temporary = paths.blob(part.digest), paths.staging / f"{os.getpid()}-{part.digest.hex}"
    disk.remove(temporary)
    try:
        os.link(blob, temporary)
    except OSError as error:
        if error.errno not in disk.UNLINKABLE:
            raise
        if disk.size(place) == part.size:
            return
        if error.errno == errno.EMLINK:
            _renew(paths, part, temporary)
        disk.link(blob, temporary)
    disk.put(temporary, place)


def _renew(paths: TreePaths, part: Part, temporary: Path) -> None:
    """Put a copy of a blob in its own place, which takes as many links again.

    ext4 allows 65,000 of one file: so a base of ever so many images costs its size once for each 65,000.
    """
    blob = paths.blob(part.digest)
    disk.copy(blob, temporary)
    if disk.hash_file(temporary)[0].hex != part.digest.hex:
        temporary.unlink()
        raise DamagedError(str(part.digest))
    temporary.rename(blob)
    disk.sync_directory(blob.parent)


def mend(paths: TreePaths, closures: Closures, index: Index) -> Index:
    """Link again what the tree or the repository lost, and return the index of what is whole then.

    A manifest that lacks a blob in both places is left out, so that the next pass publishes it again; one that was
    shown is logged.
    """
    repository, damaged = paths.repository(index.repository), []
    shown = {item.descriptor.digest for item in index.publications.values()}
    for descriptor in index.descriptors:
        try:
            link(paths, repository, list(closures.whole(descriptor, repository)))
        except (TreeError, InvalidError) as error:
            damaged.append(descriptor.digest)
            if descriptor.digest in shown:
                log.error(  # noqa: TRY400
                    "publication is damaged, it is published again if podman has its image "
                    "repository=%s digest=%s error=%r",
                    index.repository, descriptor.digest, str(error),
                )  # fmt: skip
    return index.without(damaged) if damaged else index
