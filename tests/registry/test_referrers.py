"""Which manifests refer to another one, as the repository's own manifests say."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Digest
from tests.registry.trees import Shelf
from tests.registry.wires import ask, served


def as_subject(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_a_signature_refers_to_its_image_with_type_and_annotations(shelf: Shelf) -> None:
    image = shelf.image("app:1", b"layer")
    signature = shelf.image(
        "app:sig", b"s", subject=as_subject(image), artifactType="application/x.sig", annotations={"who": "us"}
    )
    async with served(shelf.root) as address:
        answer = await ask(address, f"/v2/app/referrers/{image.digest}")
    assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
    assert "oci-filters-applied" not in answer.headers
    assert answer.json == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": str(signature.digest),
                "size": signature.size,
                "artifactType": "application/x.sig",
                "annotations": {"who": "us"},
            }
        ],
    }


async def test_the_type_of_an_image_is_its_configs_and_an_index_may_have_none(shelf: Shelf) -> None:
    image = shelf.image("app:1", b"layer")
    plain = shelf.image("app:plain", b"p", subject=as_subject(image))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": as_subject(image)}
    bare = shelf.publish("app:index", msgspec.json.encode(index), OCI_INDEX)
    async with served(shelf.root) as address:
        found = (await ask(address, f"/v2/app/referrers/{image.digest}")).json["manifests"]
    types = {item["digest"]: item.get("artifactType") for item in found}
    assert types == {str(plain.digest): "application/vnd.oci.image.config.v1+json", str(bare.digest): None}


async def test_a_filter_is_applied_and_said(shelf: Shelf) -> None:
    image = shelf.image("app:1", b"layer")
    for kind in ("sig", "sbom"):
        shelf.image(f"app:{kind}", kind.encode(), subject=as_subject(image), artifactType=f"application/x.{kind}+json")
    async with served(shelf.root) as address:
        path = f"/v2/app/referrers/{image.digest}?artifactType="
        for written in ("application%2Fx.sbom%2Bjson", "application/x.sbom+json"):  # as Go writes it, and as people do
            answer = await ask(address, path + written)
            assert [item["artifactType"] for item in answer.json["manifests"]] == ["application/x.sbom+json"]
            assert answer.headers["oci-filters-applied"] == "artifactType"
        none = await ask(address, path + "application%2Fother")
        assert (none.json["manifests"], none.headers["oci-filters-applied"]) == ([], "artifactType")


@pytest.mark.parametrize("repository", ["app", "no/such"])
async def test_what_nothing_refers_to_has_an_empty_list_and_never_404(shelf: Shelf, repository: str) -> None:
    shelf.image("app:1", b"layer")
    async with served(shelf.root) as address:
        answer = await ask(address, f"/v2/{repository}/referrers/{Digest.of(b'unknown')}")
        assert (answer.status, answer.json["manifests"]) == (200, [])
        invalid = await ask(address, f"/v2/{repository}/referrers/sha256:short")
        assert (invalid.status, invalid.code) == (400, "DIGEST_INVALID")


async def test_a_subject_need_not_be_there_and_other_repositories_do_not_count(shelf: Shelf) -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"never pushed")), "size": 12}
    shelf.image("app:sig", b"s", subject=subject)
    async with served(shelf.root) as address:
        path = f"referrers/{subject['digest']}"
        assert len((await ask(address, f"/v2/app/{path}")).json["manifests"]) == 1
        assert (await ask(address, f"/v2/other/{path}")).json["manifests"] == []


async def test_a_member_of_an_index_refers_too(shelf: Shelf) -> None:
    image = shelf.image("app:1", b"layer")
    member = shelf.image("app:tmp", b"s", subject=as_subject(image))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [as_subject(member)]}
    shelf.publish("app:all", msgspec.json.encode(index), OCI_INDEX)
    shelf.withdraw("app:tmp")
    async with served(shelf.root) as address:
        found = (await ask(address, f"/v2/app/referrers/{image.digest}")).json["manifests"]
    assert [item["digest"] for item in found] == [str(member.digest)]


async def test_a_referrer_is_found_at_the_moment_it_is_published(shelf: Shelf) -> None:
    image = shelf.image("app:1", b"layer")
    async with served(shelf.root) as address:
        path = f"/v2/app/referrers/{image.digest}"
        assert (await ask(address, path)).json["manifests"] == []
        shelf.image("app:sig", b"s", subject=as_subject(image))
        assert len((await ask(address, path)).json["manifests"]) == 1
