"""Every kind of image over podman's REST service, with no program of podman's and no skopeo."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from bridge.podman.service import listens
from tests.end_to_end.programs import SOON, eventually, run
from tests.end_to_end.services import Service
from tests.kinds import seen
from tests.kinds.catalogue import KINDS, Kind
from tests.kinds.workshop import Workshop

pytestmark = pytest.mark.timeout(1000)  # the first test waits until a store with every kind is made

BUILT = frozenset(kind.name for kind in KINDS if kind.name.startswith(("podman-", "buildah-", "build-", "import-tar")))
"""Kinds whose exact bytes come over REST too: what podman or buildah made here."""


@pytest.fixture(scope="module")
def service(workshop: Workshop) -> Iterator[Service]:
    """A service that shows all of them, over a socket of the store's own podman."""
    socket = workshop.store.directory / "rest.sock"
    settings = {
        "podman": {"socket": f"unix://{socket}", "command": ["/nowhere/podman"], "export": "rest"},
        "publish": [{"match": "*-base:1", "skip": True}],
    }
    command = [*workshop.store.command, "system", "service", "--time=0", f"unix://{socket}"]
    podman = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(socket))
        service = Service(workshop.store, workshop.store.directory / "rest", settings)
        run(*service.command("sync"), timeout=600)
        with service:
            yield service
    finally:
        podman.terminate()
        podman.wait(SOON)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_is_served_whole_with_its_own_config(service: Service, workshop: Workshop, kind: Kind) -> None:
    served = seen.image(service.client, kind.name, "1")
    assert served.id == workshop.store.image_id(f"localhost/{kind}:1")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in BUILT and kind.fidelity == "exact"], ids=str)
def test_what_was_built_here_keeps_its_digest(service: Service, kind: Kind) -> None:
    (view,) = [view for view in seen.views(service) if view["reference"] == f"{kind}:1"]
    assert (view["fidelity"], view["digest"]) == ("exact", view["podmanDigest"])


def test_nothing_that_differs_from_podmans_digest_says_exact(service: Service) -> None:
    views = [view for view in seen.views(service) if view["state"] == "Published"]
    assert len(views) >= len(KINDS)
    for view in views:
        assert (view["fidelity"] == "exact") is (view["digest"] == view["podmanDigest"]), json.dumps(view)
