"""The fleet: images of one layer each on one shared base, as they leave a build host."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.end_to_end.programs import PATIENCE, run
from tests.end_to_end.stores import Store

from .software import MB, Software

BASE = "localhost/base:1"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a fleet is; layers in bytes."""

    images: int
    layer: int
    base_layers: int
    base_layer: int

    def __str__(self) -> str:
        """Say it as the issue does."""
        base = f"{self.base_layers} x {self.base_layer // MB} MB"
        return f"{self.images} images of one {self.layer // MB} MB layer each on a shared base of {base}"


FULL = Size(images=20, layer=10 * MB, base_layers=3, base_layer=100 * MB)
QUICK = Size(images=3, layer=1 * MB, base_layers=3, base_layer=2 * MB)


@dataclass(slots=True)
class Named:
    """A store and what has a name in it: `ids` are the image IDs by repository, now."""

    store: Store
    ids: dict[str, str]


@dataclass(slots=True)
class Fleet(Named):
    """A store that holds only the fleet; `spare` is the last image's other build, without a name."""

    spare: str

    @classmethod
    def build(cls, store: Store, size: Size) -> Self:
        """Build the fleet into an empty store."""
        software, contexts = Software(), store.directory / "contexts"
        build_base(store, size, software, contexts)
        ids = {}
        for name in [*(f"app{number:02}" for number in range(1, size.images + 1)), "spare"]:
            software.fill(contexts / name / "files", size.layer)
            ids[name] = build(store, contexts / name, f"FROM {BASE}\nCOPY files /files\n")
        spare = ids.pop("spare")
        for name, image in ids.items():
            store.podman("tag", image, podman_name(name))
        store.podman("untag", BASE)
        return cls(store, ids, spare)

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Have the last image rebuilt, inside the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        name = max(self.ids)
        self.ids[name], self.spare = self.spare, self.ids[name]
        self.store.podman("tag", self.ids[name], podman_name(name))


def podman_name(repository: str) -> str:
    """Return the name that podman has for the image of a repository."""
    return f"localhost/{repository}:1"


def build_base(store: Store, size: Size, software: Software, contexts: Path) -> None:
    """Build the shared base, and call it `BASE`."""
    parent = "scratch"
    for number in range(size.base_layers):
        context = contexts / f"base{number}"
        software.fill(context / "files", size.base_layer)
        parent = build(store, context, f"FROM {parent}\nCOPY files /base{number}\n", BASE)


def build(store: Store, context: Path, containerfile: str, name: str | None = None, manifest: str = "oci") -> str:
    """Build an image and return its ID; without a name it is a dangling one; `manifest` is oci or docker."""
    (context / "Containerfile").write_text(containerfile, encoding="utf-8")
    named = ["--tag", name] if name else []
    words = ["build", "--quiet", "--isolation=chroot", "--format", manifest, *named, str(context)]
    return run(*store.command, *words, timeout=PATIENCE)
