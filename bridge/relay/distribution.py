"""What docker asks of a name in a registry, `GET /distribution/{name}/json`, told from the tree."""

import msgspec

from bridge.errors import InvalidError, NotPublishedError
from bridge.oci import Descriptor, Digest, Manifest, Reference, Repository
from bridge.tree.reader import TreeReader
from bridge.untrusted_json import decode


class _Platform(msgspec.Struct, omit_defaults=True):
    """For what an image was built; image-spec writes it like this in an index, and in a config among other things."""

    architecture: str = ""
    os: str = ""
    variant: str = ""


class _Member(msgspec.Struct):
    platform: _Platform | None = None


class _Index(msgspec.Struct):
    manifests: list[_Member] = []


def describe(tree: TreeReader, name: str) -> bytes:
    """Return descriptor and platforms of `NAME`, `NAME:TAG` or `NAME@DIGEST` as JSON.

    Raises InvalidError for what no reference is, NotPublishedError for what is not there.
    """
    repository, descriptor = _find(tree, name)
    content = tree.read(repository, descriptor.digest)
    if descriptor.is_index:
        members = decode(content, "index", _Index).manifests
        platforms = [member.platform for member in members if member.platform is not None]
    else:
        platforms = [_platform(tree, repository, content)]
    return msgspec.json.encode({"Descriptor": descriptor.to_json(), "Platforms": platforms}) + b"\n"


def _find(tree: TreeReader, name: str) -> tuple[Repository, Descriptor]:
    named, at, digest = name.partition("@")
    if at:
        repository = Repository(named)
        return repository, tree.manifest(repository, Digest.parse(digest))
    reference = Reference.parse(named if ":" in named.rpartition("/")[2] else f"{named}:latest")
    return reference.repository, tree.tagged(reference)


def _platform(tree: TreeReader, repository: Repository, content: bytes) -> _Platform:
    config = Manifest.parse(content).config
    if config is None:
        msg = f"a manifest of {repository} has no config"
        raise NotPublishedError(msg)
    try:
        return decode(tree.read(repository, config.digest), "config", _Platform)
    except InvalidError:
        return _Platform()  # podman took the image, and what it says of its platform is no reason to hide it
