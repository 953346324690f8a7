"""Indexes that cannot be read: kept, since only they know of holds, and of publications whose image has gone.

    damaged/<time>-<repository, with + for />.json

A sweep removes no blob while one is there. It is given up by `verify --repair`, or by removing the file.
"""

import logging
from datetime import UTC, datetime

from bridge.oci import Repository
from bridge.tree import disk
from bridge.tree.paths import TreePaths

log = logging.getLogger(__name__)

MOST = 16
"""Indexes that are kept: a disk that damages one again and again does not fill itself with them."""

_LONGEST = 200
"""Characters of a repository's name that go into the name of a file."""


def kept(paths: TreePaths) -> list[str]:
    """Return the names of the indexes that are kept, in the order of their times."""
    return sorted(disk.names(paths.damaged))


def words(paths: TreePaths, name: str) -> str:
    """Say of a kept index what it is, and the ways out."""
    return (
        f"{paths.damaged / name} is the damaged index of a repository, which was published again without what only that"
        " file knew: holds, and publications whose image has gone. Until you decide no blob is removed: stop podbridge,"
        " and mend the file and put it back as the repository's _oci/index.json; or give it up"
        " with `podbridge verify --repair`"
    )


def set_aside(paths: TreePaths, repository: Repository) -> None:
    """Keep the index of a repository that is about to be replaced. Its name is on the disk when this returns."""
    disk.make_directory(paths.damaged)
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    place = paths.damaged / f"{time}-{repository.name.replace('/', '+')[-_LONGEST:]}.json"
    index = paths.repository(repository).index
    if index.is_dir():
        index.rename(place)
    else:
        disk.link(index, place)
    disk.sync_directory(paths.damaged)
    log.error("damaged index is kept repository=%s way_out=%r", repository, words(paths, place.name))
    for name in kept(paths)[:-MOST]:
        disk.remove(paths.damaged / name)
        log.error("damaged index is given up, there are too many of them path=%s", paths.damaged / name)
