"""A repository's own links to the blobs of the tree: made for what is published, and mended where one was lost."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from bridge.errors import InvalidError, TreeError
from bridge.oci import Digest
from bridge.tree import disk
from bridge.tree.contents import closure
from bridge.tree.index import Index
from bridge.tree.paths import RepositoryPaths, TreePaths

log = logging.getLogger(__name__)


def link(paths: TreePaths, repository: RepositoryPaths, digests: Iterable[Digest]) -> None:
    """Link blobs of the tree into a repository, and have the links on the disk. What is there stays."""
    changed: set[Path] = set()
    for digest in digests:
        place = repository.blob(digest)
        if not place.exists():
            disk.make_directory(place.parent)
            os.link(paths.blob(digest), place)
            changed.add(place.parent)
    for directory in changed:
        disk.sync_directory(directory)


def mend(paths: TreePaths, index: Index) -> Index:
    """Link again what the tree or the repository lost, and return the index of what is whole then.

    A manifest that lacks a blob in both places is logged and left out, so that the next pass publishes it anew.
    """
    repository, damaged = paths.repository(index.repository), []
    for descriptor in index.descriptors:
        try:
            link(paths, repository, closure(paths, descriptor, repository))
        except (TreeError, InvalidError) as error:
            damaged.append(descriptor.digest)
            log.error(  # noqa: TRY400
                "publication is damaged, it is published anew repository=%s digest=%s error=%r",
                index.repository, descriptor.digest, str(error),
            )  # fmt: skip
    return index.without(damaged) if damaged else index
