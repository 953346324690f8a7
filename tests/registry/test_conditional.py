"""What caches are told, and what a client that has it already gets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.oci import Digest
from tests.registry.trees import Shelf
from tests.registry.wires import ask, served

LAYER = b"layer" * 100
FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    Shelf(tmp_path).image("app:1", LAYER)
    async with served(tmp_path) as address:
        yield address


async def paths(address: str) -> dict[str, str]:
    digest = (await ask(address, "/v2/app/manifests/1")).headers["docker-content-digest"]
    return {
        "tag": "/v2/app/manifests/1",
        "manifest": f"/v2/app/manifests/{digest}",
        "blob": f"/v2/app/blobs/{Digest.of(LAYER)}",
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["tag", "manifest", "blob"])
async def test_who_has_it_gets_304_with_the_headers_of_a_200(address: str, kind: str, method: str) -> None:
    path = (await paths(address))[kind]
    whole = await ask(address, path, method)
    etag = f'"{whole.headers["docker-content-digest"]}"'
    assert (whole.status, whole.headers["etag"]) == (200, etag)
    for condition in (etag, f"W/{etag}", f'"other", {etag}', f'"other" ,W/{etag},"x"', "*"):
        answer = await ask(address, path, method, If_None_Match=condition)
        assert (answer.status, answer.body) == (304, b"")
        for name in ("etag", "cache-control", "docker-content-digest", "docker-distribution-api-version"):
            assert answer.headers[name] == whole.headers[name]
        assert answer.headers.get("vary") == whole.headers.get("vary")
        assert "content-type" not in answer.headers


@pytest.mark.parametrize("kind", ["tag", "manifest", "blob"])
async def test_who_has_something_else_gets_it(address: str, kind: str) -> None:
    path = (await paths(address))[kind]
    for condition in ('"sha256:other"', "", 'W/"x", "y"', "sha256"):
        assert (await ask(address, path, If_None_Match=condition)).status == 200


async def test_what_is_not_there_is_never_unchanged(address: str) -> None:
    for path in ("/v2/app/manifests/2", f"/v2/app/blobs/{Digest.of(b'no')}", "/v2/no/manifests/1"):
        answer = await ask(address, path, If_None_Match="*")
        assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")


async def test_only_what_a_digest_names_is_immutable(address: str) -> None:
    caching = {
        kind: (await ask(address, path)).headers["cache-control"] for kind, path in (await paths(address)).items()
    }
    assert caching == {"tag": "no-cache", "manifest": FOREVER, "blob": FOREVER}


async def test_a_condition_goes_before_a_range(address: str) -> None:
    path = (await paths(address))["blob"]
    answer = await ask(address, path, Range="bytes=0-1", If_None_Match=f'"{Digest.of(LAYER)}"')
    assert answer.status == 304


async def test_a_moved_tag_is_changed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    old = shelf.image("app:1", b"old")
    async with served(tmp_path) as address:
        assert (await ask(address, "/v2/app/manifests/1", If_None_Match=f'"{old.digest}"')).status == 304
        new = shelf.image("app:1", b"new")
        answer = await ask(address, "/v2/app/manifests/1", If_None_Match=f'"{old.digest}"')
        assert (answer.status, answer.headers["docker-content-digest"]) == (200, str(new.digest))
