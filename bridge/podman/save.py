"""Exporting from podman's store with `podman image save`."""

import tempfile
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

    async def push(self, image_id: str, output: Output, progress: Callable[[], object]) -> None:
        """Write an image as `podman push` sends it, with every layer plain: files named by their hex, as `docker-dir`.

        podman 5 leaves non-distributable and foreign layers out of an OCI layout; `dir:` has them (measured, 5.8.6).
        """
        await self._run(["image", "push", "--quiet", image_id, f"dir:{output.directory}"], output, progress)

    async def index(self, list_id: str) -> bytes:
        """Return the index of a manifest list, byte by byte: a push without its members, in 36 ms (4.3.1)."""
        with tempfile.TemporaryDirectory(prefix="podbridge-") as directory:
            words = ["manifest", "push", "--quiet", "--all=false", list_id, f"dir:{directory}"]
            await process.run([*self.podman, *words], title="podman manifest push")
            return (Path(directory) / "manifest.json").read_bytes()

    async def _save(self, image_id: str, output: Output, progress: Callable[[], object], *kind: str) -> None:
        words = ["image", "save", "--quiet", "--format", *kind, "--output", str(output.directory), image_id]
        await self._run(words, output, progress)

    async def _run(self, words: Sequence[str], output: Output, progress: Callable[[], object]) -> None:
        environment = {"TMPDIR": str(output.scratch)}
        if output.cores:
            environment["GOMAXPROCS"] = str(output.cores)
        title = " ".join(["podman", *words[:2]])
        await process.run([*self.podman, *words], title=title, environment=environment, progress=progress)
