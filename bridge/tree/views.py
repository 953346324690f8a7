"""What is derived from `index.json` for plain web servers, which can neither parse nor choose.

    repositories/<name>/_tags.json                        the answer to tags/list
    repositories/<name>/_manifests/sha256:<hex>.<kind>    empty: the name says digest and media type
    repositories/<name>/_references/<tag or digest>       link to ../_manifests/…, switched by one rename

So the path that a reference resolves to says everything that belongs in the head of an answer, and
names its bytes in `_oci/blobs`: a server that resolves it once cannot mix two manifests. None of it is
waited for on the disk, since all of it can be made again.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
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


def derive(paths: RepositoryPaths, index: Index, scratch: Path) -> None:
    """Make the views of a repository what its index says. Idempotent; what is right is not touched.

    Manifests come before the references to them, and go after them.
    """
    names = {digest: f"{digest}.{_KINDS[item.media_type]}" for digest, item in _manifests(paths, index).items()}
    references = {str(digest): f"../_manifests/{name}" for digest, name in names.items()}
    for tag, item in index.publications.items():
        if item.descriptor.digest in names:
            references[tag.name] = references[str(item.descriptor.digest)]
    _add(paths.manifests, names.values())
    _link(paths.references, references, scratch)
    tags = sorted((tag.name for tag in index.publications), key=lambda name: (name.lower(), name))
    refresh(paths.tags, msgspec.json.encode({"name": index.repository.name, "tags": tags}), scratch)
    _keep(paths.references, references)
    _keep(paths.manifests, set(names.values()))


def remove(paths: RepositoryPaths) -> None:
    """Remove the views of a repository, the references first."""
    paths.tags.unlink(missing_ok=True)
    for directory in (paths.references, paths.manifests):
        _keep(directory, ())
        with suppress(FileNotFoundError):
            directory.rmdir()


def refresh(path: Path, content: bytes, scratch: Path) -> None:
    """Write a derived file where it differs."""
    if not path.exists() or path.read_bytes() != content:
        disk.write_atomically(path, content, scratch, durable=False)


def _manifests(paths: RepositoryPaths, index: Index) -> Mapping[Digest, Descriptor]:
    """Return every manifest that a client can ask for by digest: those of the index, and the members of lists.

    A damaged tree shows what is left of it: what cannot be read has no members.
    """
    found: dict[Digest, Descriptor] = {}
    waiting = list(index.descriptors)
    while waiting:
        item = waiting.pop()
        if item.digest in found or item.media_type not in _KINDS:
            continue
        found[item.digest] = item
        if item.is_index:
            with suppress(FileNotFoundError, InvalidError):
                waiting.extend(Manifest.parse(paths.blob(item.digest).read_bytes()).manifests)
    return found


def _add(directory: Path, names: Iterable[str]) -> None:
    disk.make_directory(directory)
    for name in set(names) - set(disk.names(directory)):
        (directory / name).touch(mode=0o644)


def _link(directory: Path, links: Mapping[str, str], scratch: Path) -> None:
    disk.make_directory(directory)
    for name, target in links.items():
        link = f"{directory}/{name}"  # of thousands of tags: a Path each takes longer than all the rest
        with suppress(OSError):  # missing, or no link
            if os.readlink(link) == target:  # noqa: PTH115
                continue
        temporary = scratch / f"{os.getpid()}-{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.rename(link)


def _keep(directory: Path, names: Iterable[str]) -> None:
    for name in set(disk.names(directory)) - set(names):
        (directory / name).unlink()
