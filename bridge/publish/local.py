"""Exports by `podman image save` on the store's own machine: only layers that the tree lacks are read."""

import asyncio
import os

from bridge.errors import ExportError
from bridge.oci import DOCKER_MANIFEST, Digest
from bridge.plan import Image
from bridge.podman import raw
from bridge.podman.client import Podman
from bridge.podman.save import Commands, Output
from bridge.publish import layout, threads
from bridge.publish.job import Job, Written
from bridge.tree import disk

_LOOK_EVERY = 0.05
"""Seconds between two looks for a layer that podman has finished: it appears under its name by a rename."""


class Local:
    """Has podman's own program write into the layout of a job, where the layers that the tree holds are linked."""

    def __init__(self, podman: Podman, commands: Commands) -> None:
        self._podman = podman
        self._commands = commands

    async def write(self, job: Job) -> Written:
        """Have podman write, verify the layers, and find podman's own manifest and config."""
        sizes = await self._save(job)
        return await self._originals(job, sizes)

    async def index(self, image: Image) -> bytes:
        """Return the index of a manifest list; needs skopeo."""
        return await raw.index(await self._podman.store(), image.id)

    async def _save(self, job: Job) -> dict[Digest, int]:
        """Have podman write the layers, and verify each as soon as it is there, while podman writes the next."""
        sizes: dict[Digest, int] = {}
        saving = asyncio.create_task(self._commands.save(job.image.id, _output(job), job.progress))
        try:
            while not saving.done():
                await asyncio.wait({saving}, timeout=_LOOK_EVERY)
                for digest in job.missing - sizes.keys():
                    if job.blob(digest).exists():
                        sizes[digest] = await threads.run(_verify, job, digest)
            await saving
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        for digest in job.missing - sizes.keys():
            sizes[digest] = await threads.run(_verify, job, digest)
        return sizes

    async def _originals(self, job: Job, sizes: dict[Digest, int]) -> Written:
        """Find podman's own manifest and config; ask no more programs than the image needs.

        What the export wrote will do where its manifest has the digest that podman shows: every image
        built locally in OCI format. It rewrites docker-format configs, drops `subject` and `urls`, and
        mislabels what was pulled; then skopeo prints the stored bytes (14 ms each). Without skopeo a
        docker-format image is written once more in its own format.
        """
        image = job.image
        saved, config = await threads.run(layout.read, job.layout)
        if image.digest is not None and Digest.of(saved) == image.digest:
            return Written(sizes, config, saved)
        if raw.available():
            store = await self._podman.store()
            stored = await raw.manifests(store, image)
            return Written(sizes, await raw.config(store, image.id), None, stored)
        if job.inspected.manifest_type != DOCKER_MANIFEST:
            return Written(sizes, config, saved)
        directory = job.directory / "docker"
        await self._commands.save_docker(image.id, Output(directory, job.scratch), job.progress)
        return Written(sizes, *await threads.run(layout.read_docker, directory, image))


def _output(job: Job) -> Output:
    """Say where podman writes. More cores than layers to read cost CPU time and save no time (measured)."""
    return Output(job.layout, job.scratch, min(len(job.missing) or 1, os.cpu_count() or 1))


def _verify(job: Job, digest: Digest) -> int:
    """Return the size of a layer that podman wrote, in bytes."""
    try:
        found, size = disk.hash_file(job.blob(digest))
    except FileNotFoundError:
        msg = f"podman left out layer {digest} of image {job.image.id[:12]}"
        raise ExportError(msg) from None
    if found != digest:
        msg = f"podman wrote layer {digest} of image {job.image.id[:12]} with bytes of digest {found}"
        raise ExportError(msg)
    return size
