"""One export under way: where podman writes, what it need not write, how far it is, and what it wrote."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridge.oci import Digest
from bridge.plan import Image
from bridge.podman.client import Inspected
from bridge.publish.manifests import Layer


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is: layers and bytes written, of so many layers; `started` on the monotonic clock."""

    image: Image
    layers_done: int
    layers: int
    written: int
    started: float


@dataclass(frozen=True, slots=True)
class Job:
    """One export under way in `directory`; `known` are the layers that the tree holds, with their sizes in bytes."""

    image: Image
    inspected: Inspected
    directory: Path
    known: Mapping[Digest, int]
    started: float

    @property
    def layout(self) -> Path:
        """Where the blobs are written, as in an OCI image layout."""
        return self.directory / "layout"

    @property
    def scratch(self) -> Path:
        """Where podman may spool."""
        return self.directory / "scratch"

    @property
    def missing(self) -> frozenset[Digest]:
        """The layers that the tree lacks."""
        return frozenset(self.inspected.diff_ids) - self.known.keys()

    def blob(self, digest: Digest) -> Path:
        """Where a blob is written."""
        return self.layout / "blobs" / digest.algorithm / digest.hex

    def layers(self, sizes: Mapping[Digest, int]) -> list[Layer]:
        """Return all layers of the image in order; `sizes` are those of the missing ones."""
        known = {**self.known, **sizes}
        return [Layer(digest, known[digest]) for digest in self.inspected.diff_ids]

    def progress(self) -> Progress:
        """Look at what podman has written so far."""
        done = sum(self.blob(digest).exists() for digest in self.missing)
        written = _written(self.directory, frozenset(digest.hex for digest in self.known))
        return Progress(self.image, done, len(self.missing), written, self.started)


@dataclass(frozen=True, slots=True)
class Written:
    """What came out of podman for one image: all missing layers, verified, and podman's own config and manifests.

    `sizes` are those of the missing layers, in bytes. `saved` is the manifest that the export made, `stored` are
    those that podman's store holds.
    """

    sizes: Mapping[Digest, int]
    config: bytes
    saved: bytes | None
    stored: tuple[bytes, ...] = ()

    @property
    def digest(self) -> Digest | None:
        """The digest of the manifest that the export made."""
        return None if self.saved is None else Digest.of(self.saved)


class Transport(Protocol):
    """A way to get an image out of podman. Raises ImageUnknownError, PodmanError, ExportError or OSError."""

    async def write(self, job: Job) -> Written:
        """Write the missing layers of `job` into its layout and verify them; find its config and manifests."""

    async def current(self, image: Image) -> Digest | None:
        """Return the digest of the image's current manifest; None if this way does not tell."""

    async def index(self, image: Image) -> bytes:
        """Return the index of a manifest list, byte by byte."""


def _written(directory: Path, known: frozenset[str]) -> int:
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            if name not in known:
                with contextlib.suppress(FileNotFoundError):
                    total += (Path(parent) / name).stat().st_size
    return total
