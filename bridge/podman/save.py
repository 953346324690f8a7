"""Exporting from podman's store with `podman image save`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.podman import process


@dataclass(frozen=True, slots=True)
class Output:
    """Where a save writes: into `directory`, by way of `scratch`, with `cores` at work (0: podman decides)."""

    directory: Path
    scratch: Path
    cores: int = 0


@dataclass(frozen=True, slots=True)
class Commands:
    """How podman is called: its words, such as `("podman", "--root", "/srv/containers")`."""

    podman: Sequence[str]

    async def save(self, image_id: str, output: Output, progress: Callable[[], object]) -> None:
        """Write the image as an OCI layout with uncompressed layers.

        A layer that already lies under `blobs/sha256` of the directory is not read again (measured,
        4.3.1). podman spools each layer into the scratch directory first. An exit code of 0 promises
        nothing: a save that was terminated can return it with half a layout (up to 5.3.0). Raises
        PodmanError.
        """
        await self._save(image_id, output, progress, "oci-dir", "--uncompressed")

    async def save_docker(self, image_id: str, output: Output, progress: Callable[[], object]) -> None:
        """Write a docker-format image with its exact bytes: `manifest.json`, and blobs named by their hex."""
        await self._save(image_id, output, progress, "docker-dir")

    async def _save(self, image_id: str, output: Output, progress: Callable[[], object], *kind: str) -> None:
        words = ("image", "save", "--quiet", "--format", *kind, "--output", str(output.directory), image_id)
        environment = {"TMPDIR": str(output.scratch)}
        if output.cores:
            environment["GOMAXPROCS"] = str(output.cores)
        command = [*self.podman, *words]
        await process.run(command, title="podman image save", environment=environment, progress=progress)
