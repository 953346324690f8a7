"""What podman's service exports as an archive, and that podbridge makes podman's own bytes of it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.errors import ImageUnknownError, UnreachableError
from bridge.plan import Fidelity, Image
from bridge.podman.client import Podman
from bridge.publish.export import Exporter
from bridge.publish.job import Job, Written
from bridge.publish.rest import Rest
from bridge.tree.publisher import Tree
from tests.contract.backends import MEGABYTE, Backend
from tests.double.gates import eventually


@pytest.fixture
async def exporter(podman: Podman, tmp_path: Path) -> AsyncIterator[Exporter]:
    """What exports from the backend into a tree of the test's own."""
    with Tree(tmp_path / "tree") as tree:
        yield Exporter(podman, Rest(podman), tree)


async def listed(podman: Podman, image_id: str) -> Image:
    """Return the image as the listing has it."""
    (image,) = [image for image in await podman.images() if image.id == image_id]
    return image


@pytest.mark.parametrize("form", ["oci", "docker"])
async def test_an_image_that_was_built_comes_with_podmans_own_digest(
    backend: Backend, podman: Podman, exporter: Exporter, form: str
) -> None:
    image_id = backend.build(f"localhost/x-{form}:1", None, f"--format={form}")
    image = await listed(podman, image_id)
    async with exporter.export(image) as exported:
        assert (exported.descriptor.digest, exported.fidelity) == (image.digest, Fidelity.EXACT)
        assert exported.read > 0
    async with exporter.export(image) as again:
        assert (again.descriptor, again.read) == (exported.descriptor, 0)


async def test_an_unknown_image_is_refused_in_podmans_words(podman: Podman, exporter: Exporter) -> None:
    with pytest.raises(ImageUnknownError):
        async with exporter.export(Image("a" * 64)):
            pass


async def test_an_image_that_was_removed_since_it_was_inspected_is_unknown(
    backend: Backend, podman: Podman, tmp_path: Path
) -> None:
    image_id = backend.build("localhost/x-gone:1")

    class Late(Rest):
        async def write(self, job: Job) -> Written:
            await asyncio.to_thread(backend.run, "rmi", image_id)
            return await super().write(job)

    with Tree(tmp_path / "tree") as tree:
        with pytest.raises(ImageUnknownError):
            async with Exporter(podman, Late(podman), tree).export(Image(image_id)):
                pass
        assert not list(tree.paths.staging.iterdir())


async def test_a_service_that_is_killed_during_an_export_leaves_nothing(fresh: Backend, tmp_path: Path) -> None:
    image_id = fresh.build("localhost/x-big:1", {"big": os.urandom(MEGABYTE) * 40})
    with fresh.service() as process, Tree(tmp_path / "tree") as tree:
        async with Podman(fresh.socket) as podman:
            exporter = Exporter(podman, Rest(podman), tree)

            async def export() -> None:
                async with exporter.export(Image(image_id)):
                    pass

            exporting = asyncio.create_task(export())
            await eventually(lambda: exporter.look() is not None)
            process.send_signal(signal.SIGKILL)
            with pytest.raises(UnreachableError):
                await exporting
        assert not list(tree.paths.staging.iterdir())
