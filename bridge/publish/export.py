"""One export: podman writes an image into staging, podbridge verifies every byte, the tree takes the blobs in."""

import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import ExportError, UnsupportedError
from bridge.oci import DOCKER_SCHEMA1, Descriptor, Digest, Manifest
from bridge.plan import Fidelity, Image, Source
from bridge.podman.client import Inspected, Podman
from bridge.publish import lists, threads
from bridge.publish.claims import Claims
from bridge.publish.job import Job, Progress, Transport, Written
from bridge.publish.manifests import choose
from bridge.publish.staging import staged
from bridge.tree import disk
from bridge.tree.publisher import Tree

SIDE_BY_SIDE = min((os.cpu_count() or 1) + 1, 4)
"""Exports at a time. One `podman image save` of one layer keeps one core busy; one more than there are cores,
because a podman that starts waits while another one reads a layer (docs/decisions/0008-exports-side-by-side.md)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An image whose blobs are all in the tree. `size` is in bytes, of everything it references.

    `read` are the bytes of the layers that podman had to read for it, and `seconds` the time that took.
    """

    descriptor: Descriptor
    fidelity: Fidelity
    size: int
    read: int = 0
    seconds: float = 0


class Exporter:
    """Exports images of one podman into one tree by its `transport`, at most `SIDE_BY_SIDE` at a time."""

    def __init__(self, podman: Podman, transport: Transport, tree: Tree) -> None:
        self._podman = podman
        self.transport = transport
        self._tree = tree
        self._claims = Claims(SIDE_BY_SIDE)
        self._jobs: list[Job] = []
        self._members: dict[str, str] = {}
        self.failed: frozenset[Source] = frozenset()
        """Images that failed before: each is tried alone, so that one that fills the disk fails no other."""

    def look(self) -> Progress | None:
        """Say how far the export is that has been under way longest; None where there is none."""
        return self._jobs[0].progress() if self._jobs else None

    def look_for(self, image: Image) -> Progress | None:
        """Say how far the export of `image`, or of a member of it, is; None where that is not under way."""
        wanted = self._members.get(image.id, image.id)
        return next((job.progress() for job in self._jobs if job.image.id == wanted), None)

    async def known(self, image: Image) -> Exported | None:
        """Return what the tree holds of an image already, under whatever name; None where podman has to write it."""
        found = await threads.run(self._tree.find, image.source, image.digests)
        if found is not None:
            return Exported(found.descriptor, found.fidelity, found.size)
        own = await threads.run(self._tree.own, image.source)
        return None if own is None else Exported(own[0], Fidelity.EXACT, own[1])

    @contextlib.asynccontextmanager
    async def export(self, image: Image, store: Iterable[Image] = ()) -> AsyncIterator[Exported]:
        """Have all blobs of `image` in the tree while the block runs, which then publishes it.

        `store` is where the members of a manifest list are looked for. Only layers that the tree lacks
        are read, and what it holds whole starts no podman. When it is cancelled, podman is killed; staging is
        gone in every case. Raises ImageUnknownError, PodmanError, ExportError or OSError, and then nothing of
        the image is visible.
        """
        known = await self.known(image)
        if known is not None:
            yield known
            return
        async with self._list(image, store) if image.is_list else self._image(image) as exported:
            yield exported

    @contextlib.asynccontextmanager
    async def _list(self, image: Image, store: Iterable[Image]) -> AsyncIterator[Exported]:
        """Export every member by itself, so that known layers are not read, then take the index in.

        `podman manifest push --all` reads every layer of every member, and fails where a member has
        lost the name by which it was added.
        """
        begun, read = time.monotonic(), 0
        content = await self.transport.index(image)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._members.pop, image.id, None)
            for member in lists.members(content, image, store):
                self._members[image.id] = member.image.id
                exported = await stack.enter_async_context(self.export(member.image, store))
                read += exported.read
                lists.require_exact(member, exported.descriptor.digest)
            directory = await stack.enter_async_context(staged(self._tree))
            await threads.run(self._adopt_bytes, directory, content)
            index = Descriptor(Manifest.parse(content).media_type, Digest.of(content), len(content))
            size = await threads.run(self._tree.size, index)
            yield Exported(index, Fidelity.EXACT, size, read, time.monotonic() - begun)

    @contextlib.asynccontextmanager
    async def _image(self, image: Image) -> AsyncIterator[Exported]:
        inspected = await self._podman.inspect(image.id)
        _require_current_format(image, inspected)
        async with staged(self._tree) as directory:
            itself = frozenset({Digest("sha256", image.id)})
            alone = image.source in self.failed
            async with self._claims.claim(lambda: itself | self._missing(inspected), alone=alone):
                exported = await self.known(image)  # as a member, or for its name, it may have come meanwhile
                if exported is None:
                    exported = await self._write(await threads.run(self._prepare, image, inspected, directory))
            yield exported

    async def _write(self, job: Job) -> Exported:
        self._jobs.append(job)
        try:
            return await self._run(job)
        finally:
            self._jobs.remove(job)

    def _missing(self, inspected: Inspected) -> frozenset[Digest]:
        return frozenset(digest for digest in inspected.diff_ids if not self._tree.has(digest))

    def _prepare(self, image: Image, inspected: Inspected, directory: Path) -> Job:
        missing = self._missing(inspected)
        known: dict[Digest, int] = {}
        job = Job(image, inspected, directory, known, time.monotonic())
        job.scratch.mkdir()
        (job.layout / "blobs" / "sha256").mkdir(parents=True)
        for digest in frozenset(inspected.diff_ids) - missing:
            known[digest] = self._tree.lend(digest, job.blob(digest))
        return job

    async def _run(self, job: Job) -> Exported:
        written = await self.transport.write(job)
        content, fidelity = choose(job.image, job.layers(written.sizes), written.saved, written.stored)
        return await threads.run(self._take, job, written, content, fidelity)

    def _take(self, job: Job, written: Written, content: bytes, fidelity: Fidelity) -> Exported:
        """Take everything verified into the tree: layers and config first, the manifest last."""
        if Digest.of(written.config).hex != job.image.id:
            msg = f"podman wrote a config with digest {Digest.of(written.config)} for image {job.image.id}"
            raise ExportError(msg)
        for digest in job.missing:
            self._tree.adopt(job.blob(digest), digest)
        self._adopt_bytes(job.directory, written.config)
        self._adopt_bytes(job.directory, content)
        descriptor = Descriptor(Manifest.parse(content).media_type, Digest.of(content), len(content))
        return Exported(
            descriptor,
            fidelity,
            self._tree.size(descriptor),
            sum(written.sizes.values()),
            time.monotonic() - job.started,
        )

    def _adopt_bytes(self, directory: Path, content: bytes) -> None:
        digest = Digest.of(content)
        disk.write_file(directory / digest.hex, content)
        self._tree.adopt(directory / digest.hex, digest)


def _require_current_format(image: Image, inspected: Inspected) -> None:
    """Raise UnsupportedError for an image in docker's first format, which has no config to verify layers by."""
    if inspected.manifest_type.startswith(DOCKER_SCHEMA1):
        msg = (
            f"image {image.id[:12]} is stored as Docker schema 1, which clients no longer pull; convert it: "
            f"`podman push --format v2s2 {image.id[:12]} dir:DIR`, then `podman pull dir:DIR`"
        )
        raise UnsupportedError(msg)
