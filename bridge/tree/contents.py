"""What a tree holds, read from the disk without its lock."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from bridge.errors import InvalidError, TreeError
from bridge.oci import Descriptor, Manifest, Reference, Repository
from bridge.plan import Publication, Shown, Source
from bridge.tree import disk
from bridge.tree.closures import Closures
from bridge.tree.index import Index
from bridge.tree.paths import FORMAT_VERSION, TreePaths
from bridge.untrusted_json import decode

log = logging.getLogger(__name__)

Unread = Callable[[OSError], None]
"""Is told why a directory cannot be read. It raises that where a tree with fewer repositories than it has would be
written, or swept."""


def _raise(error: OSError) -> None:
    raise error


def check_version(paths: TreePaths, *, new: bool) -> None:
    """Refuse a directory that is no tree of this format; with `new` an empty one will do.

    Raises TreeError, which says what the directory is instead.
    """
    try:
        version = decode(paths.version.read_bytes(), "podbridge.json", dict[str, int])["version"]
    except FileNotFoundError:
        strange = set(disk.names(paths.root)) - {
            "lost+found",
            "lock",
            "staging",
            "blobs",
            "damaged",
            "encoded",
            "scrub",
            "repositories",
        }
        if new and not strange:
            return
        found = f"it holds {min(strange)!r}" if strange else "it is empty or missing"
        msg = f"{paths.root} is no podbridge tree: {found} and no podbridge.json"
        raise TreeError(msg) from None
    except (InvalidError, KeyError) as error:
        msg = (
            f"{paths.version} is damaged: {error}; remove it, and the next `podbridge sync` or `serve` writes it again"
        )
        raise TreeError(msg) from error
    if version > FORMAT_VERSION:
        msg = (
            f"{paths.root} has tree format {version}, and this podbridge knows {FORMAT_VERSION}: use a newer podbridge"
        )
        raise TreeError(msg)
    if version < FORMAT_VERSION:
        msg = (
            f"{paths.root} has tree format {version}, which is older than any that podbridge reads: "
            "name another directory as the tree, and everything is published there"
        )
        raise TreeError(msg)


def shown(root: Path) -> Shown:
    """Read what a tree shows, without its lock; nothing where there is no tree yet. Raises TreeError."""
    paths = TreePaths(root.absolute())
    if not paths.version.exists():
        return Shown({}, frozenset())
    check_version(paths, new=False)
    return showing(read_index(paths, repository) for repository in repositories(paths))


def showing(indexes: Iterable[Index]) -> Shown:
    """Put together what indexes show."""
    publications: dict[Reference, Publication] = {}
    held: set[Reference] = set()
    for index in indexes:
        publications |= {item.reference: item for item in index.publications.values()}
        held |= {Reference(index.repository, tag) for tag in index.held}
    return Shown(publications, frozenset(held))


def repositories(paths: TreePaths, unread: Unread = _raise) -> Iterator[Repository]:
    """Yield every repository that the tree holds, found on the disk.

    A directory whose name is no repository's is another's work. It is passed over, and told once. One that cannot be
    read ends the look with its OSError, unless `unread` takes that: then the others follow.
    """
    above = len(f"{paths.repositories}/")
    for directory, has_layout in _walk(paths, unread):
        try:
            if has_layout and _is_there(f"{directory}/_oci/index.json"):
                yield Repository(directory[above:])
        except InvalidError as error:
            _tell_strange(directory, str(error))
        except OSError as error:
            unread(error)


@functools.lru_cache(maxsize=256)
def _tell_strange(directory: str, why: str) -> None:
    log.warning(
        "directory passed over, it is no repository; no blob is removed until it is gone directory=%r error=%r",
        directory, why,
    )  # fmt: skip


def directories(paths: TreePaths) -> Iterator[Path]:
    """Yield every directory that is, or is on the way to, a repository."""
    return (Path(directory) for directory, _ in _walk(paths))


def layouts(paths: TreePaths, unread: Unread = _raise) -> Iterator[str]:
    """Yield the name of every repository that has a layout, with an index or without; `unread` as `repositories`."""
    above = len(f"{paths.repositories}/")
    return (directory[above:] for directory, has_layout in _walk(paths, unread) if has_layout)


def _walk(paths: TreePaths, unread: Unread = _raise) -> Iterator[tuple[str, bool]]:
    """Yield every directory of repositories, those above first, and whether it has a layout.

    Tells `unread` where one cannot be read, and not where it has gone meanwhile.
    """

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            unread(error)

    for directory, below, _ in os.walk(paths.repositories, onerror=tell):
        yield directory, "_oci" in below
        below[:] = [name for name in below if not name.startswith("_")]


def _is_there(path: str) -> bool:
    """Return True if there is such a file. Raises OSError where the disk does not tell: that is not an answer."""
    try:
        os.stat(path)  # noqa: PTH116 # of thousands
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_index(paths: TreePaths, repository: Repository) -> Index:
    """Read the truth of a repository; raise TreeError where it is damaged."""
    try:
        return Index.parse(repository, disk.read(paths.repository(repository).index))
    except InvalidError as error:
        raise TreeError(str(error)) from error


def own(closures: Closures, paths: TreePaths, source: Source) -> tuple[Descriptor, int] | None:
    """Return the descriptor of podman's own manifest of an image, and the bytes of all that it references.

    None where the tree lacks any of it, or where podman did not tell which of several is the current one. What it was
    published for does not matter: every manifest in the tree was verified, and names plain layers.
    """
    if source.digest is None or source.form:
        return None
    try:
        content = disk.read(paths.blob(source.digest))
        if not source.digest.matches(content):
            return None
        manifest = Manifest.parse(content)
        descriptor = Descriptor(manifest.media_type, source.digest, len(content))
        whole = closures.size(descriptor)
    except (FileNotFoundError, InvalidError, TreeError):
        return None
    is_of_image = manifest.config is not None and manifest.config.digest.hex == source.image_id
    return (descriptor, whole) if is_of_image else None


def catalog(names: Iterable[str]) -> bytes:
    """Return the bytes of the derived list of repositories."""
    return msgspec.json.encode({"repositories": sorted(names)})


def listed(paths: TreePaths) -> list[str]:
    """Return the names of all repositories that show a tag, in order, by their indexes; damaged ones are left out."""
    names = []
    for repository in repositories(paths):
        with contextlib.suppress(FileNotFoundError, TreeError):
            if read_index(paths, repository).publications:
                names.append(repository.name)
    return sorted(names)
