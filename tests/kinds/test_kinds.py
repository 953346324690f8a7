"""What an empty store sees of each kind of image is what the store holds that it came from."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import oci
from tests.end_to_end.programs import run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store, survey
from tests.kinds import seen
from tests.kinds.catalogue import KINDS, Kind
from tests.kinds.workshop import Workshop

pytestmark = pytest.mark.timeout(300)  # the first test waits until a store with every kind is made


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def source(workshop: Workshop, kind: Kind) -> dict[str, Any]:
    """What podman says of the image that it holds."""
    (told,) = workshop.inspect(f"localhost/{kind}:1")
    return told


@pytest.fixture(scope="module")
def served(service: Service, kind: Kind) -> seen.Image:
    """The image as it is served, verified byte by byte."""
    return seen.image(service.client, kind.name, "1")


@pytest.fixture(scope="module")
def told(service: Service) -> dict[str, dict[str, Any]]:
    """What `podbridge list` says, by reference."""
    return {view["reference"]: view for view in seen.views(service)}


@pytest.fixture(scope="module")
def empty(kind: Kind) -> Iterator[Store]:
    """A store that held nothing."""
    with scratch() as directory:
        yield Store(directory)


@pytest.fixture(scope="module")
def pulled(service: Service, kind: Kind, empty: Store) -> str:
    """The name of the image there, pulled by podman."""
    name = f"{service.address}/{kind}:1"
    seen.pull(empty, name)
    return name


def test_it_is_served_whole_with_its_own_config(served: seen.Image, source: dict[str, Any]) -> None:
    assert served.id == source["Id"]
    assert served.manifest["config"]["digest"] == f"sha256:{source['Id']}"


def test_its_fidelity_is_told_and_true(
    told: dict[str, dict[str, Any]], kind: Kind, served: seen.Image, source: dict[str, Any]
) -> None:
    view = told[f"{kind}:1"]
    assert (view["fidelity"], view["image"]) == (kind.fidelity, source["Id"])
    assert (view["digest"], view["podmanDigest"]) == (served.digest, source["Digest"])
    assert (view["digest"] == view["podmanDigest"]) is (kind.fidelity == "exact")
    assert set(view["origins"]) >= {text.rpartition("@")[2] for text in source["RepoDigests"]}
    assert view["reason"]


def test_what_says_exact_is_podmans_own_manifest(
    workshop: Workshop, service: Service, kind: Kind, served: seen.Image, source: dict[str, Any]
) -> None:
    """What is not exact differs in the descriptors of its layers and nowhere else."""
    where = workshop.store.skopeo_name(f"@{source['Id']}")
    stored = json.loads(run("skopeo", "inspect", "--raw", where))
    if kind.fidelity != "exact":
        assert len(stored.pop("layers")) == len(served.layers)
        assert stored == {key: value for key, value in served.manifest.items() if key != "layers"}
    elif len(source["RepoDigests"]) == 1:
        assert stored == served.manifest


def test_podman_pulls_the_image_that_its_builder_has(
    empty: Store, pulled: str, served: seen.Image, source: dict[str, Any]
) -> None:
    there = Workshop(empty, empty.directory, "").inspect(pulled)[0]
    same = "Id", "Created", "Author", "Architecture", "Os", "Config", "Version", "RootFS", "Labels", "History"
    assert {key: there[key] for key in same} == {key: source[key] for key in same}
    assert there.get("Healthcheck") == source.get("Healthcheck")
    assert there["ManifestType"] == served.manifest.get("mediaType", oci.OCI_MANIFEST)
    assert there["Digest"] == served.digest


def test_podman_mounts_the_same_files(
    workshop: Workshop, kind: Kind, empty: Store, pulled: str, served: seen.Image
) -> None:
    """Podman cannot mount an image with no layer, or with more than 128, and says so of both."""
    here, there = seen.files(workshop.store, f"localhost/{kind}:1"), seen.files(empty, pulled)
    assert there == here
    assert seen.names(served) == set(here) or not 0 < len(served.layers) <= 128


def test_skopeo_copies_it_with_its_digests_kept(service: Service, kind: Kind, served: seen.Image) -> None:
    name = f"{service.address}/{kind}:1"
    with scratch() as directory:
        there = seen.copy(Store(directory), name)
        assert {seen.raw(f"docker://{name}"), seen.raw(there)} == {served.digest}
        assert seen.raw(there, "--config") == served.manifest["config"]["digest"]


def test_umoci_and_skopeo_read_the_layout_of_an_oci_image(
    workshop: Workshop, service: Service, kind: Kind, served: seen.Image
) -> None:
    """The layout of a docker-format image is whole too, but these two look for OCI manifests only."""
    layout = service.tree / "repositories" / kind.name / "_oci"
    if served.manifest.get("mediaType") == oci.DOCKER_MANIFEST:
        assert (layout / "blobs" / "sha256" / served.digest.removeprefix("sha256:")).exists()
        return
    assert seen.raw(f"oci:{layout}:1") == served.digest
    with scratch() as directory:
        run("umoci", "raw", "unpack", "--image", f"{layout}:1", directory / "rootfs")
        found = survey(directory / "rootfs")
    assert found.keys() == seen.names(served)
    if 0 < len(served.layers) <= 128:
        assert found == seen.files(workshop.store, f"localhost/{kind}:1")
