"""One export: podman writes an image into staging, podbridge verifies every byte, the tree takes the blobs in."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bridge.errors import ExportError, InvalidError
from bridge.oci import DOCKER_MANIFEST, Descriptor, Digest, Manifest
from bridge.plan import Fidelity, Image, Source
from bridge.podman import raw
from bridge.podman.client import Inspected, Podman
from bridge.podman.save import Commands, Output
from bridge.publish import lists, threads
from bridge.publish.claims import Claims
from bridge.publish.manifests import Layer, choose
from bridge.tree import disk
from bridge.tree.publisher import Tree

SIDE_BY_SIDE = 2
"""Exports at a time. One `podman image save` of one layer keeps one core busy; two finish a fleet in 0.7 of
the time, more gain nothing on two cores (docs/decisions/0008-two-exports-side-by-side.md)."""

_LOOK_EVERY = 0.05
"""Seconds between two looks for a layer that podman has finished: it appears under its name by a rename."""


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


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is: layers and bytes written, of so many layers; `started` on the monotonic clock."""

    image: Image
    layers_done: int
    layers: int
    written: int
    started: float


@dataclass(frozen=True, slots=True)
class _Originals:
    """Podman's own bytes of one image: its config, the manifest an export wrote, the manifests its store holds."""

    config: bytes
    saved: bytes | None
    stored: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Job:
    """One export under way: where podman writes, and what it need not write."""

    image: Image
    inspected: Inspected
    directory: Path
    known: frozenset[Digest]
    started: float

    @property
    def layout(self) -> Path:
        return self.directory / "layout"

    @property
    def scratch(self) -> Path:
        return self.directory / "scratch"

    @property
    def output(self) -> Output:
        """Where podman writes. More cores than layers to read cost CPU time and save no time (measured)."""
        return Output(self.layout, self.scratch, min(len(self.missing) or 1, os.cpu_count() or 1))

    def blob(self, digest: Digest) -> Path:
        return self.layout / "blobs" / digest.algorithm / digest.hex

    @property
    def missing(self) -> frozenset[Digest]:
        return frozenset(self.inspected.diff_ids) - self.known

    def progress(self) -> Progress:
        """Look at what podman has written so far."""
        done = sum(self.blob(digest).exists() for digest in self.missing)
        written = _written(self.directory, frozenset(digest.hex for digest in self.known))
        return Progress(self.image, done, len(self.missing), written, self.started)


class Exporter:
    """Exports images of one podman into one tree, at most `SIDE_BY_SIDE` at a time."""

    def __init__(self, podman: Podman, commands: Commands, tree: Tree) -> None:
        self._podman = podman
        self._commands = commands
        self._tree = tree
        self._claims = Claims(SIDE_BY_SIDE)
        self._jobs: list[_Job] = []
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

    @contextlib.asynccontextmanager
    async def export(self, image: Image, store: Iterable[Image] = ()) -> AsyncIterator[Exported]:
        """Have all blobs of `image` in the tree while the block runs, which then publishes it.

        `store` is where the members of a manifest list are looked for. Only layers that the tree lacks
        are read. When it is cancelled, podman is killed; staging is gone in every case. Raises
        ImageUnknownError, PodmanError, ExportError or OSError, and then nothing of the image is visible.
        """
        async with self._list(image, store) if image.is_list else self._image(image) as exported:
            yield exported

    @contextlib.asynccontextmanager
    async def _list(self, image: Image, store: Iterable[Image]) -> AsyncIterator[Exported]:
        """Export every member by itself, so that known layers are not read, then take the index in.

        `podman manifest push --all` reads every layer of every member, and fails where a member has
        lost the name by which it was added.
        """
        begun, read = time.monotonic(), 0
        content = await raw.index(await self._podman.store(), image.id)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._members.pop, image.id, None)
            for member in lists.members(content, image, store):
                self._members[image.id] = member.image.id
                exported = await stack.enter_async_context(self.export(member.image, store))
                read += exported.read
                lists.require_exact(member, exported.descriptor.digest)
            directory = await stack.enter_async_context(self._staged())
            await threads.run(self._adopt_bytes, directory, content)
            index = Descriptor(Manifest.parse(content).media_type, Digest.of(content), len(content))
            size = await threads.run(self._tree.size, index)
            yield Exported(index, Fidelity.EXACT, size, read, time.monotonic() - begun)

    @contextlib.asynccontextmanager
    async def _image(self, image: Image) -> AsyncIterator[Exported]:
        inspected = await self._podman.inspect(image.id)
        async with self._staged() as directory:
            async with self._claims.claim(lambda: self._missing(inspected), alone=image.source in self.failed):
                job = await threads.run(self._prepare, image, inspected, directory)
                self._jobs.append(job)
                try:
                    exported = await self._run(job)
                finally:
                    self._jobs.remove(job)
            yield exported

    def _missing(self, inspected: Inspected) -> frozenset[Digest]:
        return frozenset(digest for digest in inspected.diff_ids if not self._tree.has(digest))

    @contextlib.asynccontextmanager
    async def _staged(self) -> AsyncIterator[Path]:
        stage = self._tree.stage()
        directory = stage.__enter__()  # one mkdir, here: a thread's result could be lost to a cancellation
        try:
            yield directory
        finally:
            await threads.run(stage.__exit__, None, None, None)

    def _prepare(self, image: Image, inspected: Inspected, directory: Path) -> _Job:
        known = frozenset(inspected.diff_ids) - self._missing(inspected)
        job = _Job(image, inspected, directory, known, time.monotonic())
        job.scratch.mkdir()
        (job.layout / "blobs" / "sha256").mkdir(parents=True)
        for digest in known:
            os.link(self._tree.paths.blob(digest), job.blob(digest))
        return job

    async def _run(self, job: _Job) -> Exported:
        layers = await self._save_layers(job)
        originals = await self._originals(job)
        content, fidelity = choose(job.image, layers, originals.saved, originals.stored)
        return await threads.run(self._take, job, content, originals.config, fidelity)

    async def _originals(self, job: _Job) -> _Originals:
        """Find podman's own manifest and config; ask no more programs than the image needs.

        What the export wrote will do where its manifest has the digest that podman shows: every image
        built locally in OCI format. It rewrites docker-format configs, drops `subject` and `urls`, and
        mislabels what was pulled; then skopeo prints the stored bytes (14 ms each). Without skopeo a
        docker-format image is written once more in its own format.
        """
        image = job.image
        saved, config = await threads.run(_saved, job.layout)
        if image.digest is not None and Digest.of(saved) == image.digest:
            return _Originals(config, saved)
        if raw.available():
            store = await self._podman.store()
            stored = await raw.manifests(store, image)
            return _Originals(await raw.config(store, image.id), None, stored)
        if job.inspected.manifest_type != DOCKER_MANIFEST:
            return _Originals(config, saved)
        directory = job.directory / "docker"
        await self._commands.save_docker(image.id, Output(directory, job.scratch), job.progress)
        return _Originals(*await threads.run(_saved_docker, directory, image))

    def _take(self, job: _Job, content: bytes, config: bytes, fidelity: Fidelity) -> Exported:
        """Move everything verified into the tree: layers and config first, the manifest last."""
        if Digest.of(config).hex != job.image.id:
            msg = f"podman wrote a config with digest {Digest.of(config)} for image {job.image.id}"
            raise ExportError(msg)
        for digest in job.missing:
            self._tree.adopt(job.blob(digest), digest)
        self._adopt_bytes(job.directory, config)
        self._adopt_bytes(job.directory, content)
        descriptor = Descriptor(Manifest.parse(content).media_type, Digest.of(content), len(content))
        read = sum(self._tree.paths.blob(digest).stat().st_size for digest in job.missing)
        return Exported(descriptor, fidelity, self._tree.size(descriptor), read, time.monotonic() - job.started)

    def _adopt_bytes(self, directory: Path, content: bytes) -> None:
        disk.write_atomically(directory / "blob", content, directory)
        self._tree.adopt(directory / "blob", Digest.of(content))

    async def _save_layers(self, job: _Job) -> list[Layer]:
        """Have podman write the layers, and verify each as soon as it is there, while podman writes the next."""
        sizes: dict[Digest, int] = {}
        saving = asyncio.create_task(self._commands.save(job.image.id, job.output, job.progress))
        try:
            while not saving.done():
                await asyncio.wait({saving}, timeout=_LOOK_EVERY)
                for digest in job.missing - sizes.keys():
                    if job.blob(digest).exists():
                        sizes[digest] = await threads.run(self._verify, job, digest)
            await saving
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        for digest in set(job.inspected.diff_ids) - sizes.keys():
            sizes[digest] = await threads.run(self._verify, job, digest)
        return [Layer(digest, sizes[digest]) for digest in job.inspected.diff_ids]

    def _verify(self, job: _Job, digest: Digest) -> int:
        """Return the size of a layer. One that the tree held was verified when it came in."""
        if digest in job.known:
            return self._tree.paths.blob(digest).stat().st_size
        try:
            found, size = disk.hash_file(job.blob(digest))
        except FileNotFoundError:
            msg = f"podman left out layer {digest} of image {job.image.id[:12]}"
            raise ExportError(msg) from None
        if found != digest:
            msg = f"podman wrote layer {digest} of image {job.image.id[:12]} with bytes of digest {found}"
            raise ExportError(msg)
        return size


def _saved_docker(directory: Path, image: Image) -> tuple[bytes, bytes]:
    """Read config and manifest of a docker-format export, whose files are named by their hex."""
    try:
        return (directory / image.id).read_bytes(), (directory / "manifest.json").read_bytes()
    except FileNotFoundError as error:
        msg = f"podman's export is cut short: {error.filename} is missing"
        raise ExportError(msg) from error


def _saved(layout: Path) -> tuple[bytes, bytes]:
    """Read manifest and config of the one image in an OCI layout, and check that they are what it says."""
    try:
        entries = msgspec.json.decode((layout / "index.json").read_bytes())["manifests"]
        if len(entries) != 1:
            msg = f"podman wrote {len(entries)} manifests where one was asked for"
            raise ExportError(msg)
        manifest = _read(layout, Descriptor.from_json(entries[0]))
        config = Manifest.parse(manifest).config
        if config is None:
            msg = "podman wrote a list of manifests where an image was asked for"
            raise ExportError(msg)
        return manifest, _read(layout, config)
    except FileNotFoundError as error:
        msg = f"podman's export is cut short: {error.filename} is missing"
        raise ExportError(msg) from error
    except (msgspec.DecodeError, KeyError, TypeError, InvalidError) as error:
        msg = f"podman's export is damaged: {error!r}"
        raise ExportError(msg) from error


def _read(layout: Path, descriptor: Descriptor) -> bytes:
    content = (layout / "blobs" / descriptor.digest.algorithm / descriptor.digest.hex).read_bytes()
    if Digest.of(content) != descriptor.digest:
        msg = f"podman's export is damaged: blob {descriptor.digest} has digest {Digest.of(content)}"
        raise ExportError(msg)
    return content


def _written(directory: Path, known: frozenset[str]) -> int:
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            if name not in known:
                with contextlib.suppress(FileNotFoundError):
                    total += (Path(parent) / name).stat().st_size
    return total
