"""Exporting from podman's store with `podman image save`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.podman import process


@dataclass(frozen=True, slots=True)
class Commands:
    """How podman is called: its words, such as `("podman", "--root", "/srv/containers")`."""

    podman: Sequence[str]

    async def save(self, image_id: str, layout: Path, scratch: Path, progress: Callable[[], object]) -> None:
        """Write the image as an OCI layout with uncompressed layers.

        A layer that already lies under `blobs/sha256` of `layout` is not read again (measured, 4.3.1).
        podman spools each layer into `scratch` first. An exit code of 0 promises nothing: a save that
        was terminated can return it with half a layout (up to 5.3.0). Raises PodmanError.
        """
        await self._save("oci-dir", image_id, layout, scratch, progress, "--uncompressed")

    async def save_docker(self, image_id: str, directory: Path, scratch: Path, progress: Callable[[], object]) -> None:
        """Write a docker-format image with its exact bytes: `manifest.json`, and blobs named by their hex."""
        await self._save("docker-dir", image_id, directory, scratch, progress)

    async def _save(
        self, kind: str, image_id: str, output: Path, scratch: Path, progress: Callable[[], object], *more: str
    ) -> None:
        words = ("image", "save", "--quiet", "--format", kind, *more, "--output", str(output), image_id)
        environment = {"TMPDIR": str(scratch)}
        command = [*self.podman, *words]
        await process.run(command, title="podman image save", environment=environment, progress=progress)
