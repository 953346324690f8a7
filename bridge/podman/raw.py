"""What podman's store holds, byte by byte, printed by skopeo: 14 ms each, no event, no layer read.

Raises ImageUnknownError where skopeo does not see the image, which podman may see all the same: podman tells some of
its additional image stores to no other program (several of them before podman 5, and `--imagestore`).

An image can own several manifests: one stored each time it was built with other annotations, or pulled or loaded in
another form. podman shows the digest of the first as the image's, also where it inspects it, and pushes the current
one. `@ID` gives the current one, and `NAME@DIGEST@ID` any (measured, 4.3.1).
"""

import contextlib
import shutil

from bridge.errors import ImageUnknownError, PodmanError
from bridge.oci import Digest
from bridge.plan import Image
from bridge.podman import options, process
from bridge.podman.client import Store


def available() -> bool:
    """Say whether skopeo is here."""
    return shutil.which("skopeo") is not None


async def current(store: Store, image_id: str) -> Digest:
    """Return the digest of the image's current manifest, which `podman push` would send."""
    return Digest.of(await _inspect(store, f"@{image_id}"))


async def manifests(store: Store, image: Image) -> tuple[bytes, ...]:
    """Return the image's current manifest, and then those of the other digests that podman knows it by."""
    found = [await _inspect(store, f"@{image.id}")]
    wanted = image.digests | ({image.digest} if image.digest else set())
    for digest in sorted(wanted - {Digest.of(found[0])}):
        for name in image.names:
            with contextlib.suppress(PodmanError):
                found.append(await _inspect(store, f"{name.rpartition(':')[0]}@{digest}@{image.id}"))
                break
    return tuple(found)


async def index(store: Store, list_id: str) -> bytes:
    """Return the index of a manifest list, byte by byte as `podman manifest push` would send it.

    `/manifests/{id}/json` is not these bytes: it always says that the list is docker's, and drops
    annotations (measured, 4.3.1).
    """
    return await _inspect(store, f"@{list_id}")


async def config(store: Store, image_id: str) -> bytes:
    """Return the config; its digest is the image ID."""
    return await _inspect(store, f"@{image_id}", "--config")


async def _inspect(store: Store, what: str, *more: str) -> bytes:
    where = f"containers-storage:[{_spell(store)}]{what}"
    try:
        return await process.run(["skopeo", "inspect", "--raw", *more, where], title="skopeo inspect")
    except PodmanError as error:
        if "does not resolve to an image ID" in str(error):
            raise ImageUnknownError(str(error)) from error
        raise


def _spell(store: Store) -> str:
    """Return the store as skopeo has it named; raise ImageUnknownError where its grammar has no way to."""
    places = str(store.graph_root), str(store.run_root)
    if any(set(place) & set("[]+:") for place in places):
        msg = f"skopeo cannot name podman's store at {store.graph_root}"
        raise ImageUnknownError(msg)
    named = "+".join(places)
    more = options.spell(store.options)
    return f"{store.driver}@{named}:{more}" if more else f"{store.driver}@{named}"
