"""What differs between podman's versions of images that the double cannot hold: lists, and those made elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import oci
from tests import versions
from tests.contract.backends import Backend, store
from tests.end_to_end.programs import run
from tests.kinds import layouts
from tests.kinds.layouts import Layer, tar


@pytest.fixture(scope="module")
def real() -> Iterator[Backend]:
    """A store of podman's own."""
    with store("podman") as made:
        yield made


def raw(backend: Backend, name: str) -> dict[str, Any]:
    """Return the manifest or the index that podman holds."""
    told: dict[str, Any] = json.loads(run("skopeo", "inspect", "--raw", backend.place(name)))
    return told


def saved(backend: Backend, layer: Layer, directory: Path) -> tuple[str, bool]:
    """Save an image of one layer; return the layer's media type in what was saved, and if the layer is there too."""
    layouts.write(directory / "made", [layer])
    run("skopeo", "copy", "--quiet", f"dir:{directory / 'made'}", backend.place("localhost/made:1"))
    backend.run(
        "image", "save", "--quiet", "--format=oci-dir", "--uncompressed", f"--output={directory / 'o'}", "made:1"
    )
    (entry,) = json.loads((directory / "o" / "index.json").read_bytes())["manifests"]
    (blobs,) = (directory / "o" / "blobs").iterdir()
    (told,) = json.loads((blobs / entry["digest"].partition(":")[2]).read_bytes())["layers"]
    return told["mediaType"], (blobs / layouts.digest(layer.plain).partition(":")[2]).exists()


def test_a_list_of_oci_images_is_an_oci_index_and_its_name_finds_the_member_too_or_only_itself(real: Backend) -> None:
    real.build("localhost/member:1")
    real.run("manifest", "create", "localhost/list:1")
    assert raw(real, "localhost/list:1")["mediaType"] == oci.DOCKER_LIST, "while it has no member"
    real.run("manifest", "add", "localhost/list:1", "containers-storage:localhost/member:1")
    assert raw(real, "localhost/list:1")["mediaType"] == oci.OCI_INDEX
    found = real.run("images", "--quiet", "localhost/list:1").splitlines()
    assert len(found) == (2 if versions.A_NAME_OF_A_LIST_FINDS_ITS_MEMBER.holds() else 1)


def test_a_save_calls_plain_tar_what_it_is_or_what_it_was_when_it_was_pulled(real: Backend, tmp_path: Path) -> None:
    media_type, there = saved(real, Layer(tar("pulled")).gzipped(), tmp_path)
    assert media_type == oci.OCI_LAYER + ("" if versions.A_SAVE_TELLS_TRUE_MEDIA_TYPES.holds() else "+gzip")
    assert there


def test_a_save_has_layers_that_may_not_be_distributed_or_leaves_them_out(real: Backend, tmp_path: Path) -> None:
    elsewhere = Layer(tar("elsewhere"), oci.OCI_LAYER_NONDISTRIBUTABLE, {"urls": ["http://127.0.0.1:1/layer"]})
    _, there = saved(real, elsewhere, tmp_path)
    assert there is not versions.A_SAVE_LEAVES_OUT_NONDISTRIBUTABLE_LAYERS.holds()
