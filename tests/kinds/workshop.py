"""A store that is filled with images of every kind, and what podman says of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.programs import run
from tests.end_to_end.stores import Store
from tests.kinds import seen


@dataclass(frozen=True, slots=True)
class Workshop:
    """One podman store, a directory for sources, and a registry that keeps what is pushed as it is."""

    store: Store
    directory: Path
    registry: str

    def take(self, source: str, name: str) -> str:
        """Copy an image into the store as `localhost/<name>:1`; return its ID."""
        run("skopeo", "copy", "--quiet", source, self.store.skopeo_name(f"localhost/{name}:1"))
        return self.store.image_id(f"localhost/{name}:1")

    def pull(self, source: str, name: str) -> str:
        """Pull an image with podman, and tag it `localhost/<name>:1`; return its ID."""
        image = self.store.podman("pull", "--quiet", "--tls-verify=false", source)
        self.store.podman("tag", image, f"localhost/{name}:1")
        return image

    def convert(self, source: Path, name: str, *words: str) -> str:
        """Copy a `dir:` layout with the options of `skopeo copy` to where `name` says; return that."""
        run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *words, f"dir:{source}", name)
        return name

    def keys(self) -> tuple[Path, Path]:
        """Return a private key and its public one, made when they are asked for first."""
        private, public = self.directory / "key.pem", self.directory / "public.pem"
        if not public.exists():
            run("openssl", "genrsa", "-out", private, "2048")
            run("openssl", "rsa", "-in", private, "-pubout", "-out", public)
        return private, public

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """Return what podman says of images."""
        told: list[dict[str, Any]] = json.loads(self.store.podman("image", "inspect", *names))
        return told


def make_list(store: Store, name: str, *members: str) -> str:
    """Make a manifest list of what `members` name; return podman's ID of it."""
    store.podman("manifest", "create", name)
    for member in members:
        store.podman("manifest", "add", name, member)
    return str(listed(store, name)["Id"])


def listed(store: Store, name: str) -> dict[str, Any]:
    """Return what `podman images` says of a list; asked for its name, podman 5.8 lists its member for this host too."""
    told: list[dict[str, Any]] = json.loads(store.podman("images", "--format", "json"))
    (found,) = [entry for entry in told if name in (entry.get("Names") or ())]
    return found


def local(*names: str) -> tuple[str, ...]:
    """Return how `podman manifest add` finds images of its own store, which are named `localhost/<name>:1`."""
    return tuple(f"containers-storage:localhost/{name}:1" for name in names)


def held(store: Store, name: str) -> str:
    """Return the digest of an image or a list as podman holds it now."""
    return seen.raw(store.skopeo_name(name))
