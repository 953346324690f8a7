"""Clients that ask us in place of another registry find podman's name of the image."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.registry.trees import Shelf
from tests.registry.wires import ask, dialled, served

NAMES = ["quay.io/org/app", "docker.io/library/nginx", "docker.io/grafana/grafana", "reg.example.com_5000/x", "own"]


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    for name in NAMES:
        Shelf(tmp_path).image(f"{name}:1", name.encode())
    async with served(tmp_path) as address:
        yield address


@pytest.mark.parametrize(
    ("asked", "namespace", "found"),
    [
        ("quay.io/org/app", "", 0), ("org/app", "quay.io", 0), ("quay.io/org/app", "quay.io", 0),
        ("docker.io/library/nginx", "", 1), ("library/nginx", "docker.io", 1), ("nginx", "docker.io", 1),
        ("docker.io/nginx", "", 1), ("library/nginx", "", 1),
        ("grafana/grafana", "docker.io", 2), ("x", "reg.example.com:5000", 3), ("own", "", 4),
        ("org/app", "", None), ("own", "quay.io", None), ("nginx", "", None), ("library/nginx", "quay.io", None),
        ("org/app", "../quay.io", None), ("org/app", "q" * 300, None),
    ],
)  # fmt: skip
async def test_a_mirrored_name_finds_its_image_and_no_other(
    address: str, asked: str, namespace: str, found: int | None
) -> None:
    query = f"?ns={namespace}" if namespace else ""
    manifest = await ask(address, f"/v2/{asked}/manifests/1{query}")
    tags = await ask(address, f"/v2/{asked}/tags/list{query}")
    if found is None:
        assert (manifest.status, manifest.code) == (404, "NAME_UNKNOWN")
        assert tags.status == 404
        return
    layer = manifest.json["layers"][0]["digest"]
    blob = await ask(address, f"/v2/{asked}/blobs/{layer}{query}")
    assert (manifest.status, blob.body) == (200, NAMES[found].encode())
    assert tags.json == {"name": asked, "tags": ["1"]}
    assert (await ask(address, f"/v2/{asked}/referrers/{layer}{query}")).status == 200


async def test_our_own_address_as_the_namespace_is_no_mirror(address: str) -> None:
    answer = await ask(address, "/v2/own/manifests/1?ns=registry")  # as the Host header of `ask` says
    assert answer.status == 200


async def test_what_a_client_calls_us_decides_for_no_other_client(tmp_path: Path) -> None:
    """An answer that hangs on the Host header must not be remembered for who sends another one."""
    Shelf(tmp_path).image("org/app:1", b"ours")
    path = "/v2/org/app/manifests/1?ns=quay.io"
    async with served(tmp_path) as address, dialled(address) as line:
        for _ in range(2):
            await line.send(f"GET {path} HTTP/1.1\r\nHost: quay.io\r\n\r\n".encode())
            assert (await line.answer()).status == 200
            assert (await line.ask(path)).code == "NAME_UNKNOWN"


async def test_pages_of_a_mirrored_repository_stay_there(tmp_path: Path) -> None:
    for tag in "abc":
        Shelf(tmp_path).image(f"quay.io/org/app:{tag}", b"layer")
    async with served(tmp_path) as address:
        answer = await ask(address, "/v2/org/app/tags/list?n=2&ns=quay.io")
        following = answer.headers["link"].split(">")[0].strip("<")
        assert (await ask(address, following)).json["tags"] == ["c"]
