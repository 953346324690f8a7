"""Which links and blobs a tree no longer needs: what no index references, and what nothing links."""

import contextlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bridge.tree import disk, encodings, views
from bridge.tree.contents import closure
from bridge.tree.index import Index
from bridge.tree.paths import RepositoryPaths, TreePaths


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, or would remove. `freed` is in bytes."""

    manifests: int = 0
    blobs: int = 0
    freed: int = 0


def unreferenced(paths: TreePaths, index: Index) -> list[Path]:
    """Return a repository's links to blobs that nothing in its `index` references.

    Raises TreeError, or InvalidError, where it is damaged.
    """
    repository = paths.repository(index.repository)
    referenced = {digest.hex for descriptor in index.descriptors for digest in closure(paths, descriptor)}
    return [
        repository.blobs / algorithm / name
        for algorithm in disk.names(repository.blobs)
        for name in set(disk.names(repository.blobs / algorithm)) - referenced
    ]


def sweep_blobs(paths: TreePaths, before: float, leaving: Counter[str] | None) -> tuple[int, int]:
    """Remove blobs without a link that are older than `before`; return how many, and the bytes that frees.

    Given the number of links that would leave, only count them.
    """
    count = freed = 0
    with os.scandir(paths.blobs) as entries:
        for entry in entries:
            status = entry.stat()
            links = status.st_nlink - (leaving or Counter())[entry.name]
            if links == 1 and status.st_mtime < before:
                count, freed = count + 1, freed + status.st_size
                freed += encodings.drop(paths, entry.name, dry_run=leaving is not None)
                if leaving is None:
                    Path(entry.path).unlink()
    return count, freed


def remove(paths: TreePaths, repository: RepositoryPaths) -> None:
    """Remove an empty repository, views and `index.json` first, and the directories above that it leaves empty."""
    views.remove(repository)
    repository.index.unlink(missing_ok=True)
    if repository.layout.exists():
        shutil.rmtree(repository.layout)
    directory = repository.root
    while directory != paths.repositories and not any(disk.names(directory)):
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()
        directory = directory.parent
