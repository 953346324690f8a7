"""A podman store of its own for one benchmark, in one directory, and nothing left of it afterwards."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Store:
    """A podman store below `directory`."""

    directory: Path

    @property
    def podman(self) -> list[str]:
        """The words that begin every podman command on this store."""
        places = ("--root", "r"), ("--runroot", "rr"), ("--tmpdir", "t")
        return ["podman", *(word for option, name in places for word in (option, str(self.directory / name)))]

    @property
    def buildah(self) -> list[str]:
        """The words that begin every buildah command on this store."""
        return ["buildah", "--root", str(self.directory / "r"), "--runroot", str(self.directory / "rr")]

    @property
    def transport(self) -> str:
        """What precedes an image's name for skopeo."""
        return f"containers-storage:[overlay@{self.directory / 'r'}+{self.directory / 'rr'}]"

    def build(self, context: Path, containerfile: str, name: str | None = None, manifest: str = "oci") -> str:
        """Build an image and return its ID; without a name it is a dangling one; `manifest` is oci or docker."""
        (context / "Containerfile").write_text(containerfile, encoding="utf-8")
        words = ["build", "--quiet", "--isolation=chroot", f"--format={manifest}"]
        words += [f"--file={context / 'Containerfile'}", *(["--tag", name] if name else [])]
        return run([*self.podman, *words, str(context)])

    def tag(self, image: str, name: str) -> None:
        """Give an image a name."""
        run([*self.podman, "tag", image, name])

    def untag(self, name: str) -> None:
        """Take a name away, and leave the image."""
        run([*self.podman, "untag", name])


def run(command: list[str]) -> str:
    """Run a command to its end and return what it printed, without the white space around it.

    Raises:
        RuntimeError: it failed, with its own words.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        message = f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}"
        raise RuntimeError(message)
    return done.stdout.strip()


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Make a directory with a short name, for unix sockets, and remove it with what is mounted in it."""
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="b", dir=parent.resolve()))
    try:
        yield directory
    finally:
        for mount in reversed(_mounts_below(directory)):
            run(["umount", "--lazy", mount])
        shutil.rmtree(directory)


def _mounts_below(directory: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{directory}{os.sep}")]
