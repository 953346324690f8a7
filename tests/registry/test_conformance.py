"""What the OCI conformance suite asks of reads, in our words.

The suite is that of distribution-spec, commit 967efdc (after v1.1.1), `conformance/`: the tests for
empty repositories, blobs, manifests by tag and by digest, tag lists, referrers, missing and invalid content.
It writes what it reads; here the publisher does.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Digest
from tests.registry.trees import Shelf
from tests.registry.wires import ask, served

REPOSITORY = "conformance/repo1"
ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}"
BLOBS = (b"", b"{}", b"small" * 100, b"large" * 100_000)


@dataclass(frozen=True, slots=True)
class Suite:
    """The registry, and the manifests that it was given by tag."""

    address: str
    manifests: dict[str, tuple[Descriptor, bytes]]


def _fill(shelf: Shelf) -> dict[str, Descriptor]:
    """Publish one manifest of every kind that the suite pushes and that a tree can hold whole."""

    def subject(descriptor: Descriptor) -> dict[str, Any]:
        return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}

    def index(tag: str, *members: Descriptor, **fields: Any) -> Descriptor:
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [subject(member) for member in members]}
        return shelf.publish(f"{REPOSITORY}:{tag}", msgspec.json.encode(value | fields), OCI_INDEX)

    def image(tag: str, *layers: bytes, **fields: Any) -> Descriptor:
        return shelf.image(f"{REPOSITORY}:{tag}", *layers, **fields)

    found = {"image": image("image", *BLOBS), "no-layers": image("no-layers")}
    found["index"] = index("index", found["image"], found["no-layers"])
    found["nested-index"] = index("nested-index", found["index"])
    found["empty-index"] = index("empty-index")
    found["custom-fields"] = image("custom-fields", b"x", org_example={"any": ["thing"]})
    found["large"] = image("large", b"x", annotations={f"a{n}": "A" * 100_000 for n in range(39)})
    found["artifact"] = image(
        "artifact",
        b"a",
        subject=subject(found["image"]),
        artifactType="application/vnd.example",
        annotations={"k": "v"},
    )
    found["artifact-index"] = index("artifact-index", found["artifact"], subject=subject(found["image"]))
    return found


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Suite]:
    shelf = Shelf(tmp_path)
    found = _fill(shelf)
    blobs = tmp_path / "blobs" / "sha256"
    manifests = {tag: (descriptor, (blobs / descriptor.digest.hex).read_bytes()) for tag, descriptor in found.items()}
    async with served(tmp_path) as address:
        yield Suite(address, manifests)


async def test_ping(suite: Suite) -> None:
    assert (await ask(suite.address, "/v2/")).status == 200


async def test_an_empty_repository_has_no_tags_or_is_not_there(suite: Suite) -> None:
    assert (await ask(suite.address, "/v2/conformance/empty/tags/list")).status == 404
    answer = await ask(suite.address, f"/v2/conformance/empty/referrers/{Digest.of(b'')}")
    assert (answer.status, answer.headers["content-type"], answer.json["manifests"]) == (200, OCI_INDEX, [])


@pytest.mark.parametrize("content", BLOBS, ids=len)
async def test_blobs(suite: Suite, content: bytes) -> None:
    digest = Digest.of(content)
    path = f"/v2/{REPOSITORY}/blobs/{digest}"
    head, get = await ask(suite.address, path, "HEAD"), await ask(suite.address, path)
    assert (head.status, get.status, get.body) == (200, 200, content)
    for answer in (head, get):
        assert answer.headers["docker-content-digest"] == str(digest)
        assert answer.headers["content-length"] == str(len(content))
    if len(content) > 10:
        part = await ask(suite.address, path, Range="bytes=5-")
        assert (part.status, part.body) == (206, content[5:])
        assert part.headers["content-range"] == f"bytes 5-{len(content) - 1}/{len(content)}"


async def test_manifests_by_tag_and_by_digest(suite: Suite) -> None:
    for tag, (descriptor, content) in suite.manifests.items():
        for reference in (tag, str(descriptor.digest)):
            path = f"/v2/{REPOSITORY}/manifests/{reference}"
            head = await ask(suite.address, path, "HEAD", Accept=ACCEPT)
            get = await ask(suite.address, path, Accept=ACCEPT)
            assert (head.status, get.status, get.body) == (200, 200, content)
            for answer in (head, get):
                assert answer.headers["content-type"] == descriptor.media_type
                assert answer.headers["content-length"] == str(len(content))
                assert answer.headers["docker-content-digest"] == str(descriptor.digest)


async def test_the_tags_in_halves(suite: Suite) -> None:
    path = f"/v2/{REPOSITORY}/tags/list"
    whole = (await ask(suite.address, path)).json["tags"]
    assert set(whole) == set(suite.manifests)
    half = len(whole) // 2
    first = await ask(suite.address, f"{path}?n={half}")
    assert first.json == {"name": REPOSITORY, "tags": whole[:half]}
    rest = await ask(suite.address, f"{path}?n={len(whole)}&last={whole[half - 1]}")
    assert rest.json["tags"] == whole[half:]


async def test_referrers_with_and_without_a_filter(suite: Suite) -> None:
    subject = suite.manifests["image"][0].digest
    path = f"/v2/{REPOSITORY}/referrers/{subject}"
    answer = await ask(suite.address, path)
    assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
    found = {item["digest"]: item for item in answer.json["manifests"]}
    assert set(found) == {str(suite.manifests[tag][0].digest) for tag in ("artifact", "artifact-index")}
    artifact = found[str(suite.manifests["artifact"][0].digest)]
    assert (artifact["artifactType"], artifact["annotations"]) == ("application/vnd.example", {"k": "v"})
    filtered = await ask(suite.address, f"{path}?artifactType=application/vnd.example")
    assert filtered.json["manifests"] == [artifact]
    assert filtered.headers["oci-filters-applied"] == "artifactType"


async def test_missing_content_is_404_and_invalid_digests_are_refused(suite: Suite) -> None:
    missing = Digest.of(b"hello world")
    for method in ("GET", "HEAD"):
        for path in (
            f"blobs/{missing}",
            f"manifests/{missing}",
            "manifests/missing",
            "manifests/.INVALID_MANIFEST_NAME",
        ):
            assert (await ask(suite.address, f"/v2/{REPOSITORY}/{path}", method)).status == 404
        for digest in ("sha256:totallywrong", "sha256:baddigeststring", "sha512:00", "md5:00"):
            for kind in ("manifests", "blobs"):
                assert (await ask(suite.address, f"/v2/{REPOSITORY}/{kind}/{digest}", method)).status == 400
