"""Accept: the stored manifest with its own media type, or 404; see docs/decisions on it."""

from pathlib import Path

import pytest

from bridge.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from bridge.registry.negotiation import accepts
from tests.registry.trees import Shelf
from tests.registry.wires import ask, served

SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+json"
PODMAN = f"{OCI_MANIFEST}, {DOCKER_MANIFEST}, {SCHEMA_1}, {DOCKER_LIST}, {OCI_INDEX}"
CONTAINERD = f"{DOCKER_MANIFEST}, {DOCKER_LIST}, {OCI_MANIFEST}, {OCI_INDEX}, */*"


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        ("", True), ("*/*", True), ("application/*", True), ("application/json", True), (PODMAN, True),
        (CONTAINERD, True), (OCI_MANIFEST, True), (f"{OCI_MANIFEST};q=0.5", True), (OCI_MANIFEST.upper(), True),
        (f"{OCI_MANIFEST}; charset=utf-8", True), (" , ", True),
        (OCI_INDEX, False), (DOCKER_MANIFEST, False), ("text/html", False), (f"{OCI_MANIFEST};q=0", False),
        (f"{OCI_MANIFEST};q=0, */*", False), (f"{OCI_MANIFEST} ; Q=0.000 , */*;q=1", False),
        (f"*/*;q=0, {OCI_MANIFEST}", True), ("*/*;q=0", False), ("text/html, application/*;q=0", False),
    ],
)  # fmt: skip
def test_the_most_specific_range_decides(accept: str, taken: bool) -> None:
    assert accepts(accept, OCI_MANIFEST) is taken


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
async def test_a_manifest_comes_with_its_own_media_type_or_not_at_all(tmp_path: Path, media_type: str) -> None:
    image = Shelf(tmp_path).image("app:1", b"layer", mediaType=media_type)
    async with served(tmp_path) as address:
        for path in ("/v2/app/manifests/1", f"/v2/app/manifests/{image.digest}"):
            for accept in (media_type, "*/*", PODMAN, CONTAINERD):
                answer = await ask(address, path, Accept=accept)
                assert (answer.status, answer.headers["content-type"]) == (200, media_type)
                assert answer.headers["vary"] == "Accept"
            answer = await ask(address, path, Accept=OCI_INDEX)
            assert (answer.status, answer.code, answer.headers["vary"]) == (404, "MANIFEST_UNKNOWN", "Accept")
            assert answer.json["errors"][0]["detail"]["mediaType"] == media_type
            assert (await ask(address, path, "HEAD", Accept=OCI_INDEX)).status == 404


async def test_several_accept_headers_count_as_one(tmp_path: Path) -> None:
    Shelf(tmp_path).image("app:1", b"layer")
    async with served(tmp_path) as address:
        answer = await ask(address, "/v2/app/manifests/1", Accept=f"{OCI_INDEX}\r\nAccept: {OCI_MANIFEST}")
        assert answer.status == 200
