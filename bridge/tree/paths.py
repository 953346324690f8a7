"""Where everything lies in a tree."""

from dataclasses import dataclass
from pathlib import Path

from bridge.oci import Digest, Repository

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class RepositoryPaths:
    """The places of one repository."""

    root: Path

    @property
    def layout(self) -> Path:
        """The OCI image layout."""
        return self.root / "_oci"

    @property
    def index(self) -> Path:
        """The truth: one descriptor per tag."""
        return self.layout / "index.json"

    @property
    def tags(self) -> Path:
        """The derived answer to `tags/list`."""
        return self.root / "_tags.json"

    @property
    def references(self) -> Path:
        """The derived directory of links, one per tag and per digest of a manifest."""
        return self.root / "_references"

    @property
    def manifests(self) -> Path:
        """The derived directory of empty files that say what each manifest is."""
        return self.root / "_manifests"

    @property
    def blobs(self) -> Path:
        """The directory of the algorithms' directories."""
        return self.layout / "blobs"

    def blob(self, digest: Digest) -> Path:
        """Return the repository's own link to a blob."""
        return self.blobs / digest.algorithm / digest.hex


@dataclass(frozen=True, slots=True)
class TreePaths:
    """The places of a tree."""

    root: Path

    @property
    def version(self) -> Path:
        """The file that says which format this tree has."""
        return self.root / "podbridge.json"

    @property
    def lock(self) -> Path:
        """The file that the publisher locks."""
        return self.root / "lock"

    @property
    def staging(self) -> Path:
        """The parent of all staging directories."""
        return self.root / "staging"

    @property
    def blobs(self) -> Path:
        """The directory of all sha256 blobs."""
        return self.root / "blobs" / "sha256"

    @property
    def encoded(self) -> Path:
        """Everything about encodings; may be removed at any time."""
        return self.root / "encoded"

    @property
    def encodings(self) -> Path:
        """The directory of all gzip encodings, each named as its blob."""
        return self.encoded / "gzip"

    @property
    def unencodable(self) -> Path:
        """The directory of marks: blobs that do not shrink."""
        return self.encoded / "identity"

    @property
    def encoding_staging(self) -> Path:
        """The directory of the encoding under way."""
        return self.encoded / "staging"

    @property
    def scrub(self) -> Path:
        """The directory of what the scrub remembers of itself; may be removed at any time."""
        return self.root / "scrub"

    @property
    def damaged(self) -> Path:
        """The directory of indexes that could not be read and were replaced, for an operator to decide about."""
        return self.root / "damaged"

    @property
    def repositories(self) -> Path:
        """The parent of all repositories."""
        return self.root / "repositories"

    @property
    def catalog(self) -> Path:
        """The derived list of all repositories."""
        return self.repositories / "_catalog.json"

    def blob(self, digest: Digest) -> Path:
        """Where the tree keeps a blob."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def repository(self, repository: Repository) -> RepositoryPaths:
        """Return the places of one repository."""
        return RepositoryPaths(self.repositories / repository.name)
