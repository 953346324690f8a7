"""Of an image with several manifests that one is served which `podman push` sends."""

import subprocess
from pathlib import Path

import pytest

from bridge import oci
from bridge.podman.service import listens
from tests.end_to_end.programs import SOON, eventually
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, tar
from tests.kinds.workshop import Workshop

pytestmark = pytest.mark.timeout(1000)


def pushed(store: Store, name: str, directory: Path) -> str:
    """Return the digest of what `podman push` sends."""
    store.podman("push", "--quiet", name, f"dir:{directory}")
    return str(oci.Digest.of((directory / "manifest.json").read_bytes()))


def build(store: Store, text: str, form: str = "oci") -> str:
    """Build always the same image, with another annotation."""
    same = ("--quiet", "--no-cache", "--timestamp", "0", "--format", form)
    return store.podman("build", *same, "--annotation", f"is={text}", "--tag", "localhost/app:1", store.context("app"))


def commit(store: Store, text: str) -> str:
    """Commit always the same container with buildah, with another annotation; return the image's ID."""
    container = store.buildah("from", "scratch")
    store.buildah("copy", "--quiet", container, store.context("app") / "file", "/file")
    store.buildah("config", "--annotation", f"is={text}", container)
    image = store.buildah("commit", "--quiet", "--rm", "--timestamp", "0", container, "localhost/app:1")
    return image.rpartition(":")[2]


@pytest.mark.parametrize("export", ["local", "rest"])
def test_what_podman_pushes_is_served_whichever_manifest_was_stored_first(
    own: Workshop, directory: Path, export: str
) -> None:
    socket = own.store.directory / "rest.sock"
    settings = {"socket": f"unix://{socket}", "command": own.store.command, "export": export}
    service = Service(own.store, directory / "p", {"podman": settings})
    command = [*own.store.command, "system", "service", "--time=0", f"unix://{socket}"]
    podman = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(socket))
        served = []
        for number, text in enumerate("ABA"):
            build(own.store, text)
            served.append(serve(own.store, service, directory / f"{number}"))
    finally:
        podman.terminate()
        podman.wait(SOON)
    assert served[0] == served[2] != served[1]


def test_what_buildah_commits_again_with_another_annotation_is_served(own: Workshop, directory: Path) -> None:
    service = Service(own.store, directory / "p", {"podman": {"command": own.store.command}})
    images, served = [], []
    for number, text in enumerate("ABA"):
        images.append(commit(own.store, text))
        served.append(serve(own.store, service, directory / f"{number}"))
    assert len(set(images)) == 1
    assert served[0] == served[2] != served[1]


def test_what_buildah_commits_again_is_seen_by_a_running_service(own: Workshop, directory: Path) -> None:
    """No event tells of it, and neither the image's ID nor, the third time, the listing changes."""
    with Service(own.store, directory / "p") as service:
        for number, text in enumerate("ABA"):
            commit(own.store, text)
            sent = pushed(own.store, "localhost/app:1", directory / f"{number}")
            eventually(lambda now=sent: service.client.shows("app", "1", now))  # type: ignore[misc]


def serve(store: Store, service: Service, directory: Path) -> str:
    """Publish, and return the digest that is served: that of what podman pushes."""
    service.tell("sync")
    (view,) = seen.views(service, "--tree", str(service.tree))
    sent = pushed(store, "localhost/app:1", directory)
    assert (view["digest"], view["podmanDigest"], view["fidelity"]) == (sent, sent, "exact")
    return sent


def test_an_image_pulled_again_with_other_annotations_is_served_with_these(own: Workshop, directory: Path) -> None:
    service = Service(own.store, directory / "p", {"podman": {"command": own.store.command}})
    for number, text in enumerate(("A", "B", "A")):
        layout = own.directory / f"layout-{number}"
        layouts.write(layout, [Layer(tar("app"))], annotations={"is": text})
        own.take(f"dir:{layout}", "again")
        service.tell("sync")
        (view,) = seen.views(service, "--tree", str(service.tree))
        assert view["digest"] == pushed(own.store, "localhost/again:1", directory / f"{number}")
