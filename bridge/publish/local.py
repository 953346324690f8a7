"""Exports by `podman image save` on the store's own machine: only layers that the tree lacks are read."""

import asyncio
import os
from collections.abc import Set as AbstractSet

from bridge.errors import ExportError
from bridge.oci import DOCKER_MANIFEST, Digest
from bridge.plan import Image
from bridge.podman import raw
from bridge.podman.client import Podman
from bridge.podman.save import Commands, Output
from bridge.publish import layout, manifests, threads
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
        if job.inspected.manifest_type == DOCKER_MANIFEST and raw.available():
            sizes, config = await self._beside(job)
            written = Written(sizes, config, manifests.docker(config, job.layers(sizes)))
            return written if written.digest == job.image.digest else await self._stored(job, sizes, config)
        return await self._originals(job, await self._save(job))

    async def _beside(self, job: Job) -> tuple[dict[Digest, int], bytes]:
        """Save a docker-format image; its config, which the save rewrites, comes from skopeo meanwhile."""
        asking = asyncio.create_task(self._config(job))
        try:
            return await self._save(job), await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _config(self, job: Job) -> bytes:
        return await raw.config(await self._podman.store(), job.image.id)

    async def _stored(self, job: Job, sizes: dict[Digest, int], config: bytes) -> Written:
        return Written(sizes, config, None, await raw.manifests(await self._podman.store(), job.image))

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
                ready = {digest for digest in job.missing - sizes.keys() if job.blob(digest).exists()}
                sizes |= await _verify_all(job, ready)
            await saving
        finally:
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        return sizes | await _verify_all(job, job.missing - sizes.keys())

    async def _originals(self, job: Job, sizes: dict[Digest, int]) -> Written:
        """Find podman's own manifest and config; ask no more programs than the image needs.

        What the export wrote will do where its manifest has the digest that podman shows: every image
        built locally in OCI format. It drops `subject` and `urls`, and mislabels what was pulled; then
        skopeo prints the stored bytes (14 ms each). It rewrites docker-format configs; without skopeo a
        docker-format image is written once more in its own format.
        """
        image = job.image
        saved, config = await threads.run(layout.read, job.layout, job.image)
        if image.digest is not None and Digest.of(saved) == image.digest:
            return Written(sizes, config, saved)
        if raw.available():
            return await self._stored(job, sizes, await self._config(job))
        if job.inspected.manifest_type != DOCKER_MANIFEST:
            return Written(sizes, config, saved)
        directory = job.directory / "docker"
        await self._commands.save_docker(image.id, Output(directory, job.scratch), job.progress)
        return Written(sizes, *await threads.run(layout.read_docker, directory, image))


def _output(job: Job) -> Output:
    """Say where podman writes. More cores than layers to read cost CPU time and save no time (measured)."""
    return Output(job.layout, job.scratch, min(len(job.missing) or 1, os.cpu_count() or 1))


async def _verify_all(job: Job, digests: AbstractSet[Digest]) -> dict[Digest, int]:
    """Verify layers side by side, since podman ends those of a base at nearly the same moment; return their sizes."""
    tasks = {digest: asyncio.create_task(threads.run(_verify, job, digest)) for digest in digests}
    await asyncio.gather(*tasks.values(), return_exceptions=True)  # all have ended before one fails
    return {digest: task.result() for digest, task in tasks.items()}


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
