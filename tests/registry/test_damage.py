"""What a disk has damaged is never sent: the registry answers 500 for it, and goes on with all else."""

import json
from pathlib import Path

import pytest

from bridge.oci import Digest, Reference, Repository
from bridge.registry import server, workers
from bridge.tree.publisher import Tree
from bridge.tree.reader import TreeReader
from tests.registry.crews import manned, settings
from tests.registry.wires import ask
from tests.tree import making

LAYER = b"a small layer"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Tree(tmp_path / "t") as tree:
        one, two = making.image(tree, LAYER, note="1"), making.image(tree, LAYER, note="2")
        tree.publish(making.publication("app:1", one))
        tree.publish(making.publication("app:list", making.index(tree, one, two)))
        tree.publish(making.publication("other:1", two))
    return tmp_path / "t"


def damage(root: Path, digest: Digest) -> None:
    blob = root / "blobs/sha256" / digest.hex
    content = bytearray(blob.read_bytes())
    content[-2] ^= 1
    with blob.open("r+b") as file:
        file.write(content)


@pytest.mark.parametrize("tag", ["1", "list"])
async def test_a_damaged_manifest_is_500_is_told_and_leaves_the_others(root: Path, tag: str) -> None:
    digest = TreeReader(root).tagged(Reference.parse(f"app:{tag}")).digest
    told: list[str] = []
    async with manned(settings(root)) as crew:
        damage(root, digest)
        crew.on_damage = told.append
        for reference in (tag, str(digest)):
            answer = await ask(crew.address, f"/v2/app/manifests/{reference}")
            assert answer.status == 500
            assert json.loads(answer.body)["errors"][0]["code"] == "UNSUPPORTED"
        other = "list" if tag == "1" else "1"
        assert (await ask(crew.address, f"/v2/app/manifests/{other}")).status == 200
        assert (await ask(crew.address, "/v2/app/tags/list")).status == 200
        assert (await ask(crew.address, f"/v2/app/referrers/{digest}")).status == 200
    assert set(told) == {str(digest)}


async def test_a_damaged_small_blob_is_500_and_is_told(root: Path) -> None:
    digest = Digest.of(LAYER)
    told: list[str] = []
    async with manned(settings(root)) as crew:
        damage(root, digest)
        crew.on_damage = told.append
        for method in ("GET", "HEAD"):
            assert (await ask(crew.address, f"/v2/app/blobs/{digest}", method)).status == 500
        assert (await ask(crew.address, f"/v2/app/blobs/{digest}", Range="bytes=0-3")).status == 500
    assert set(told) == {str(digest)}


async def test_what_was_read_before_is_still_sent(root: Path) -> None:
    async with manned(settings(root, workers=1)) as crew:
        path = f"/v2/app/blobs/{Digest.of(LAYER)}"
        assert (await ask(crew.address, path)).body == LAYER
        damage(root, Digest.of(LAYER))
        assert (await ask(crew.address, path)).body == LAYER


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"repositories": 3}', None])
async def test_a_catalog_that_a_power_cut_has_emptied_is_made_of_the_indexes(root: Path, content: bytes | None) -> None:
    catalog = root / "repositories/_catalog.json"
    catalog.unlink()
    if content is not None:
        catalog.write_bytes(content)
    async with workers.running(server.listen("127.0.0.1", 0), settings(root, workers=1)) as crew:
        answer = await ask(crew.address, "/v2/_catalog")
        assert (answer.status, json.loads(answer.body)) == (200, {"repositories": ["app", "other"]})
    assert TreeReader(root).view(Repository("app")).tags
