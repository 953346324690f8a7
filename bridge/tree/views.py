"""What is derived from `index.json` for plain web servers, which can neither parse nor choose.

    repositories/<name>/_tags.json                        the answer to tags/list
    repositories/<name>/_manifests/sha256:<hex>.<kind>    empty: the name says digest and media type
    repositories/<name>/_references/<tag or digest>       link to ../_manifests/…, switched by one rename

So the path that a reference resolves to says everything that belongs in the head of an answer, and
names its bytes in `_oci/blobs`: a server that resolves it once cannot mix two manifests. No name of it is
waited for on the disk, since all of it can be made again; what a name stands for is there before it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bridge.errors import InvalidError
from bridge.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Digest, Manifest
from bridge.tree import disk
from bridge.tree.index import Index
from bridge.tree.paths import RepositoryPaths

_KINDS = {
    DOCKER_LIST: "docker-list",
    DOCKER_MANIFEST: "docker-manifest",
    OCI_INDEX: "oci-index",
    OCI_MANIFEST: "oci-manifest",
}


@dataclass(frozen=True, slots=True)
class _Views:
    """What should be there: the names in `_manifests`, the targets of the links in `_references`, and `_tags.json`.

    It `is_sure` if every list could be read: otherwise there are members that nobody knows of, and nothing is removed.
    """

    manifests: frozenset[str]
    references: Mapping[str, str]
    tags: bytes
    is_sure: bool


def derive(paths: RepositoryPaths, index: Index, scratch: Path) -> None:
    """Make the views of a repository what its index says. Idempotent; what is right is not touched.

    Manifests come before the references to them, and go after them.
    """
    views = _expected(paths, index)
    _add(paths.manifests, views.manifests)
    _link(paths.references, views.references, scratch)
    refresh(paths.tags, views.tags, scratch)
    if views.is_sure:
        _keep(paths.references, views.references)
        _keep(paths.manifests, views.manifests)


def faults(paths: RepositoryPaths, index: Index) -> Iterator[str]:
    """Yield the views of a repository that are not what its index says, by their names."""
    views = _expected(paths, index)
    if not _has(paths.tags, views.tags):
        yield paths.tags.name
    if set(disk.names(paths.manifests)) != views.manifests:
        yield paths.manifests.name
    links = {name: _target(f"{paths.references}/{name}") for name in disk.names(paths.references)}
    if links != views.references:
        yield paths.references.name


def _expected(paths: RepositoryPaths, index: Index) -> _Views:
    manifests, is_sure = _manifests(paths, index)
    names = {digest: f"{digest}.{_KINDS[item.media_type]}" for digest, item in manifests.items()}
    references = {str(digest): f"../_manifests/{name}" for digest, name in names.items()}
    for tag, item in index.publications.items():
        if item.descriptor.digest in names:
            references[tag.name] = references[str(item.descriptor.digest)]
    tags = sorted((tag.name for tag in index.publications), key=lambda name: (name.lower(), name))
    content = msgspec.json.encode({"name": index.repository.name, "tags": tags})
    return _Views(frozenset(names.values()), references, content, is_sure)


def remove(paths: RepositoryPaths) -> None:
    """Remove the views of a repository, the references first."""
    disk.remove(paths.tags)
    for directory in (paths.references, paths.manifests):
        _keep(directory, ())
        with suppress(FileNotFoundError):
            directory.rmdir()


def refresh(path: Path, content: bytes, scratch: Path) -> None:
    """Write a derived file where it differs. Its bytes are on the disk before its name: it is never empty."""
    if not _has(path, content):
        disk.write_atomically(path, content, scratch, settled=False)


def _has(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False  # missing, or it cannot be read: it is made again


def _manifests(paths: RepositoryPaths, index: Index) -> tuple[Mapping[Digest, Descriptor], bool]:
    """Return every manifest that a client can ask for by digest: those of the index, and the members of lists.

    A damaged tree shows what is left of it: the second value says whether every list could be read.
    """
    found: dict[Digest, Descriptor] = {}
    is_sure = True
    waiting = list(index.descriptors)
    while waiting:
        item = waiting.pop()
        if item.digest in found or item.media_type not in _KINDS:
            continue
        found[item.digest] = item
        members = _members(paths, item) if item.is_index else ()
        is_sure = is_sure and members is not None
        waiting.extend(members or ())
    return found, is_sure


def _members(paths: RepositoryPaths, item: Descriptor) -> tuple[Descriptor, ...] | None:
    try:
        content = paths.blob(item.digest).read_bytes()
        return Manifest.parse(content).manifests if item.digest.matches(content) else None
    except (OSError, InvalidError):
        return None


def _add(directory: Path, names: Iterable[str]) -> None:
    disk.make_directory(directory)
    for name in set(names) - set(disk.names(directory)):
        (directory / name).touch()
        (directory / name).chmod(0o644)


def _link(directory: Path, links: Mapping[str, str], scratch: Path) -> None:
    disk.make_directory(directory)
    for name, target in links.items():
        link = f"{directory}/{name}"  # of thousands of tags: a Path each takes longer than all the rest
        if _target(link) == target:
            continue
        temporary = scratch / f"{os.getpid()}-{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        disk.put(temporary, Path(link))


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:
        return ""  # missing, or no link


def _keep(directory: Path, names: Iterable[str]) -> None:
    for name in set(disk.names(directory)) - set(names):
        disk.remove(directory / name)
