"""Exports by `podman image save` on the store's own machine: only layers that the tree lacks are read."""

import asyncio
import contextlib
import os
from collections.abc import Set as AbstractSet

from bridge.errors import ExportError, ImageUnknownError
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
            return written if written.digest == job.image.digest else await self._originals(job, sizes)
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
        try:
            return await raw.config(await self._podman.store(), job.image.id)
        except ImageUnknownError:  # skopeo does not see every store that podman sees
            return (await self._in_docker_format(job))[0]

    async def current(self, image: Image) -> Digest | None:
        """Have skopeo print the current manifest; without skopeo nothing tells."""
        return await raw.current(await self._podman.store(), image.id) if raw.available() else None

    async def index(self, image: Image) -> bytes:
        """Return the index of a manifest list."""
        if raw.available():
            with contextlib.suppress(ImageUnknownError):
                return await raw.index(await self._podman.store(), image.id)
        return await self._commands.index(image.id)

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
        await self._push_left_out(job)
        return sizes | await _verify_all(job, job.missing - sizes.keys())

    async def _push_left_out(self, job: Job) -> None:
        """Have podman push the layers that a whole save left out because they may not be distributed."""
        left_out = [digest for digest in job.missing if not job.blob(digest).exists()]
        if not left_out or not (job.layout / "index.json").exists():
            return
        saved, _ = await threads.run(layout.read, job.layout, job.image)
        manifests.require_layers(job.image, job.inspected.diff_ids, saved)
        directory = job.directory / "pushed"
        await self._commands.push(job.image.id, Output(directory, job.scratch), job.progress)
        for digest in left_out:
            with contextlib.suppress(FileNotFoundError):
                (directory / digest.hex).rename(job.blob(digest))

    async def _originals(self, job: Job, sizes: dict[Digest, int]) -> Written:
        """Find podman's own manifest and config; ask no more programs than the image needs.

        What the export wrote will do where its manifest has the digest that podman shows: every image
        built locally in OCI format. It drops `subject` and `urls`, and mislabels what was pulled; then
        skopeo prints the stored bytes (14 ms each). It rewrites docker-format configs; without skopeo a
        docker-format image is written once more in its own format.
        """
        image = job.image
        saved, config = await threads.run(layout.read, job.layout, image)
        manifests.require_layers(image, job.inspected.diff_ids, saved)
        if image.digest is not None and Digest.of(saved) == image.digest:
            return Written(sizes, config, saved)
        if raw.available():
            try:
                store = await self._podman.store()
                return Written(sizes, await raw.config(store, image.id), None, await raw.manifests(store, image))
            except ImageUnknownError:  # skopeo does not see every store that podman sees
                if not await self._podman.exists(image):
                    raise
        if job.inspected.manifest_type != DOCKER_MANIFEST:
            return Written(sizes, config, saved)
        return Written(sizes, *await self._in_docker_format(job))

    async def _in_docker_format(self, job: Job) -> tuple[bytes, bytes]:
        """Have podman write a docker-format image once more, whole, in its own format; return config and manifest."""
        directory = job.directory / "docker"
        if not directory.exists():
            await self._commands.save_docker(job.image.id, Output(directory, job.scratch), job.progress)
        return await threads.run(layout.read_docker, directory, job.image)


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
