"""The values of the OCI specifications. A value that exists is valid, and safe in a path.

Sources: image-spec v1.1.1 (descriptor.md, manifest.md, image-index.md) and distribution-spec v1.1.1
(spec.md, "Pulling manifests": the grammar of names and tags).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from bridge.errors import InvalidError
from bridge.untrusted_json import decode

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
"""How the media types of docker's first format begin: signed and unsigned."""
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST}) | INDEX_TYPES

_TAR = re.compile(r"([^+;]*[./]tar)(?:[+.;].*)?", re.ASCII | re.DOTALL)
"""A tar, and how it was packed: `+gzip`, `.gzip`, `+zstd:chunked`, `+gzip+encrypted`, or whatever comes to exist. The
families of image-spec and docker, non-distributable ones included, and what vendors name alike stay what they are."""
_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_MAX_REPOSITORY = 255
_MAX_SIZE = 2**63 - 1
"""Bytes of a blob that image-spec can name: descriptor.md has `size` as an int64."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A content address, `sha256:<64 hex>` or `sha512:<128 hex>`."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest that `text` spells; raise InvalidError otherwise."""
        match = _DIGEST.fullmatch(text)
        if match is None:
            msg = f"not a digest: {text[:80]!r}; expected sha256:<64 lower-case hex digits>"
            raise InvalidError(msg)
        algorithm, _, encoded = text.partition(":")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Return the sha256 digest of `content`."""
        return cls("sha256", hashlib.sha256(content).hexdigest())

    def matches(self, content: bytes) -> bool:
        """Return True if this is the digest of `content`."""
        return hashlib.new(self.algorithm, content).hexdigest() == self.hex

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """A repository's `<name>`, without a host, at most 255 characters."""

    name: str

    def __post_init__(self) -> None:
        if len(self.name) > _MAX_REPOSITORY:
            msg = f"repository name is longer than {_MAX_REPOSITORY} characters: {self.name[:40]!r}…"
            raise InvalidError(msg)
        if not _REPOSITORY.fullmatch(self.name):
            msg = (
                f"not a repository name: {self.name!r}; components of a-z and 0-9, "
                "joined by single '.', '_', '__' or '-', separated by '/'"
            )
            raise InvalidError(msg)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A tag: 1 to 128 of letters, digits, `_`, `.` and `-`, the first none of `.` and `-`."""

    name: str

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.name):
            msg = f"not a tag: {self.name[:140]!r}; at most 128 of A-Z a-z 0-9 _ . - and no leading '.' or '-'"
            raise InvalidError(msg)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """`<repository>:<tag>`, the name of a publication."""

    repository: Repository
    tag: Tag

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference that `name:tag` spells; a missing tag is an error, not `latest`."""
        name, colon, tag = text.rpartition(":")
        if not colon or "/" in tag:
            msg = f"not a reference: {text[:300]!r}; expected NAME:TAG"
            raise InvalidError(msg)
        return cls(Repository(name), Tag(tag))

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest or an index says of one blob. `size` is in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read a descriptor as JSON decodes it; raise InvalidError for anything else."""
        try:
            media_type, size, digest = value["mediaType"], value["size"], value["digest"]
            annotations = _annotations(value)
        except (KeyError, TypeError) as error:
            raise _no_descriptor(value) from error
        if not isinstance(media_type, str) or not isinstance(digest, str):
            raise _no_descriptor(value)
        if type(size) is not int or not 0 <= size <= _MAX_SIZE:
            raise _no_descriptor(value)
        return cls(media_type, Digest.parse(digest), size, annotations)

    @property
    def is_index(self) -> bool:
        """Whether this describes a list of manifests."""
        return self.media_type in INDEX_TYPES

    @property
    def is_manifest(self) -> bool:
        """Whether this describes a manifest or a list of them."""
        return self.media_type in MANIFEST_TYPES

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as image-spec's descriptor.md writes it."""
        fields: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.artifact_type:
            fields["artifactType"] = self.artifact_type
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return fields


def _no_descriptor(value: Any) -> InvalidError:
    return InvalidError(f"not a descriptor: {str(value)[:200]}")


def _annotations(value: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the annotations of a manifest or a descriptor; raise InvalidError where they are no texts."""
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values()):
        msg = f"annotations are no map of texts: {str(annotations)[:200]}"
        raise InvalidError(msg)
    return annotations


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest (`config`, `layers`) or an index (`manifests`), of OCI or docker."""

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a manifest's bytes; raise InvalidError where it is none.

        An OCI manifest may lack `mediaType` (manifest.md says SHOULD): then its fields tell what it is.
        """
        value = decode(content, "manifest", dict[str, Any])
        layers, manifests = value.get("layers") or [], value.get("manifests") or []
        config, subject = value.get("config"), value.get("subject")
        media_type = value.get("mediaType") or (OCI_INDEX if "manifests" in value else OCI_MANIFEST)
        artifact_type = value.get("artifactType") or ""
        if not isinstance(layers, list) or not isinstance(manifests, list):
            msg = "not a manifest: its layers or manifests are no list"
            raise InvalidError(msg)
        if not isinstance(media_type, str) or media_type not in MANIFEST_TYPES:
            msg = f"not a manifest that podbridge knows: media type {str(media_type)[:200]!r}"
            raise InvalidError(msg)
        if media_type not in INDEX_TYPES and config is None:
            msg = "not a manifest: it has no config"
            raise InvalidError(msg)
        if not isinstance(artifact_type, str):
            msg = f"not a manifest: its artifactType is no text: {str(artifact_type)[:200]}"
            raise InvalidError(msg)
        return cls(
            media_type,
            None if config is None else Descriptor.from_json(config),
            tuple(Descriptor.from_json(layer) for layer in layers),
            tuple(Descriptor.from_json(manifest) for manifest in manifests),
            None if subject is None else Descriptor.from_json(subject),
            _annotations(value),
            artifact_type,
        )

    def refer(self, own: Descriptor) -> Descriptor:
        """Return `own`, this manifest's descriptor, as a list of referrers shows it.

        The type of an image manifest without `artifactType` is that of its config; an index without one
        has none: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
        """
        fallback = "" if self.config is None or self.is_index else self.config.media_type
        return replace(own, annotations=self.annotations, artifact_type=self.artifact_type or fallback)

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests instead of a config and layers."""
        return self.media_type in INDEX_TYPES

    @property
    def references(self) -> tuple[Descriptor, ...]:
        """Every blob that must be there for this manifest to be pullable (not its subject)."""
        config = () if self.config is None else (self.config,)
        return (*config, *self.layers, *self.manifests)


def plain_media_type(media_type: str) -> str:
    """Return the media type of the same layer as a plain tar: whatever follows `tar` says how its bytes were packed.

    A type that names no tar, such as an artifact's, is returned as it is.
    """
    match = _TAR.fullmatch(media_type)
    return match[1] if match is not None else media_type
