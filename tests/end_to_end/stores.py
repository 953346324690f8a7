"""Podman stores, one directory each, and what their owners do to them."""

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.programs import run


@dataclass(frozen=True, slots=True)
class Store:
    """A podman store of its own below `directory`."""

    directory: Path

    @property
    def command(self) -> list[str]:
        """The words that begin every podman command on this store."""
        places = ("--root", "r"), ("--runroot", "rr"), ("--tmpdir", "t")
        return ["podman", *(word for option, name in places for word in (option, str(self.directory / name)))]

    def podman(self, *words: str | Path) -> str:
        """Run podman on this store."""
        return run(*self.command, *words)

    def buildah(self, *words: str | Path) -> str:
        """Run buildah on this store."""
        return run("buildah", "--root", self.directory / "r", "--runroot", self.directory / "rr", *words)

    def skopeo_name(self, name: str) -> str:
        """Return how skopeo names an image of this store."""
        return f"containers-storage:[overlay@{self.directory / 'r'}+{self.directory / 'rr'}]{name}"

    def build(self, name: str, content: str | None = None) -> str:
        """Build an image of one small layer, unlike any other unless `content` says so; return its ID."""
        context = self.context(content or name)
        return self.podman("build", "--quiet", "--tag", name, context)

    def context(self, content: str) -> Path:
        """Make the directory of a build."""
        context = self.directory / "context"
        context.mkdir(exist_ok=True)
        (context / "file").write_text(content, encoding="utf-8")
        (context / "Containerfile").write_text("FROM scratch\nCOPY file /file\n", encoding="utf-8")
        return context

    def build_large(self, name: str, megabytes: int) -> str:
        """Build an image of one layer of that many random megabytes; return its ID."""
        context = self.context(name)
        with (context / "file").open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1_000_000))
        return self.podman("build", "--quiet", "--tag", name, context)

    def archive(self, content: str) -> Path:
        """Make a tar of one file, for `podman import`."""
        path = self.directory / "import.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(self.context(content) / "file", "file")
        return path

    def digest(self, name: str) -> str:
        """Return what `podman images --digests` shows for a name."""
        lines = self.podman("images", "--digests", "--no-trunc", "--format", "{{.Digest}}", name).splitlines()
        assert len(set(lines)) == 1, f"podman lists every name of the image, all with one digest: {lines}"
        return lines[0]

    def image_id(self, name: str) -> str:
        """Return podman's ID of an image."""
        return self.podman("image", "inspect", "--format", "{{.Id}}", name)

    @contextmanager
    def mounted(self, name: str) -> Iterator[Path]:
        """Mount an image while the block runs."""
        path = Path(self.podman("image", "mount", name))
        try:
            yield path
        finally:
            self.podman("image", "umount", name)


def survey(root: Path) -> dict[str, tuple[object, ...]]:
    """Return everything that a file system says of the files below `root`, their contents included."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        names = os.listxattr(path, follow_symlinks=False)
        extended = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        owner = status.st_uid, status.st_gid
        found[str(path.relative_to(root))] = (status.st_mode, owner, status.st_rdev, status.st_mtime, extended, content)
    return found
