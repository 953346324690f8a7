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
from tests.kinds.layouts import digest
from tests.kinds.workshop import Workshop

pytestmark = pytest.mark.timeout(1000)  # the first test waits until a store with every kind is made


NAMES = {kind.name: f"localhost/{kind}:1" for kind in KINDS}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def sources(workshop: Workshop) -> dict[str, dict[str, Any]]:
    """What podman says of the images that it holds."""
    return dict(zip(NAMES, workshop.inspect(*NAMES.values()), strict=True))


@pytest.fixture(scope="module")
def source(sources: dict[str, dict[str, Any]], kind: Kind) -> dict[str, Any]:
    """What podman says of the image that it holds."""
    return sources[kind.name]


@pytest.fixture(scope="module")
def files(workshop: Workshop) -> dict[str, seen.Files]:
    """The files of each image, as podman mounts it."""
    return seen.files(workshop.store, NAMES)


@pytest.fixture(scope="module")
def served(service: Service, kind: Kind) -> seen.Image:
    """The image as it is served, verified byte by byte."""
    return seen.image(service.client, kind.name, "1")


@pytest.fixture(scope="module")
def told(service: Service) -> dict[str, dict[str, Any]]:
    """What `podbridge list` says, by reference."""
    return {view["reference"]: view for view in seen.views(service)}


@pytest.fixture(scope="module")
def pulled(service: Service) -> Iterator[tuple[Store, dict[str, str]]]:
    """A store that held nothing, with all images pulled by podman: no two of them share a layer with files in it."""
    with scratch() as directory:
        store = Store(directory)
        names = {kind.name: f"{service.address}/{kind}:1" for kind in KINDS}
        run(*store.command, "pull", "--quiet", "--tls-verify=false", *names.values(), timeout=600)
        yield store, names


@pytest.fixture(scope="module")
def there(pulled: tuple[Store, dict[str, str]]) -> dict[str, dict[str, Any]]:
    """What podman says there of the images that it pulled."""
    store, names = pulled
    return dict(zip(names, Workshop(store, store.directory, "").inspect(*names.values()), strict=True))


@pytest.fixture(scope="module")
def files_there(pulled: tuple[Store, dict[str, str]]) -> dict[str, seen.Files]:
    """The files of each image there."""
    return seen.files(*pulled)


def test_it_is_served_whole_with_its_own_config(served: seen.Image, source: dict[str, Any]) -> None:
    assert served.id == source["Id"]
    assert served.manifest["config"]["digest"] == f"sha256:{source['Id']}"


def test_its_fidelity_is_told_and_true(
    told: dict[str, dict[str, Any]], kind: Kind, served: seen.Image, source: dict[str, Any]
) -> None:
    view = told[f"{kind}:1"]
    assert (view["fidelity"], view["image"]) == (kind.fidelity, source["Id"])
    known = {source["Digest"]} | {text.rpartition("@")[2] for text in source["RepoDigests"]}
    assert view["digest"] == served.digest
    assert view["podmanDigest"] in known, "the current manifest's, which podman does not always name first"
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
    there: dict[str, dict[str, Any]], kind: Kind, served: seen.Image, source: dict[str, Any]
) -> None:
    found = there[kind.name]
    same = "Id", "Created", "Author", "Architecture", "Os", "Config", "Version", "RootFS", "Labels", "History"
    assert {key: found[key] for key in same} == {key: source[key] for key in same}
    assert found.get("Healthcheck") == source.get("Healthcheck")
    assert found["ManifestType"] == served.manifest.get("mediaType", oci.OCI_MANIFEST)
    assert found["Digest"] == served.digest


def test_podman_mounts_the_same_files(
    files: dict[str, seen.Files], files_there: dict[str, seen.Files], kind: Kind, served: seen.Image
) -> None:
    assert files_there[kind.name] == files[kind.name]
    assert files[kind.name].keys() == seen.names(served)


def test_skopeo_copies_it_with_its_digests_kept(service: Service, kind: Kind, served: seen.Image) -> None:
    name = f"docker://{service.address}/{kind}:1"
    assert seen.raw(name) == served.digest
    with scratch() as directory:
        words = "--quiet", "--preserve-digests", "--src-tls-verify=false"
        run("skopeo", "copy", *words, name, f"dir:{directory / 'copied'}")
        found = {digest(path.read_bytes()): path.name for path in (directory / "copied").iterdir()}
    assert found[served.digest] == "manifest.json"
    for part in (served.manifest["config"], *(served.manifest.get("layers") or ())):
        assert f"sha256:{found[part['digest']]}" == part["digest"]


def test_umoci_and_skopeo_read_the_layout_of_an_oci_image(
    files: dict[str, seen.Files], service: Service, kind: Kind, served: seen.Image
) -> None:
    """The layout of a docker-format image is whole too, but these two look for OCI manifests only."""
    layout = service.tree / "repositories" / kind.name / "_oci"
    if served.manifest.get("mediaType") == oci.DOCKER_MANIFEST:
        assert (layout / "blobs" / "sha256" / served.digest.removeprefix("sha256:")).exists()
        return
    assert seen.raw(f"oci:{layout}:1") == served.digest
    with scratch() as directory:
        run("umoci", "raw", "unpack", "--image", f"{layout}:1", directory / "rootfs")
        assert survey(directory / "rootfs") == files[kind.name]
