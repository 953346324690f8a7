"""What refers to an image in the store is published and listed; what podman takes for no image, it refuses itself."""

import json
from typing import Any

import pytest

from bridge import oci
from tests.end_to_end.programs import ask, eventually, run
from tests.end_to_end.services import Service
from tests.kinds import layouts
from tests.kinds.layouts import Layer, tar
from tests.kinds.workshop import Workshop, held

SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"


def test_an_image_with_a_subject_is_listed_by_the_referrers_of_its_subject(own: Workshop) -> None:
    with Service(own.store, own.store.directory / "p") as service:
        own.store.build("localhost/app:1")
        subject = held(own.store, "localhost/app:1")
        about = {"mediaType": oci.OCI_MANIFEST, "digest": subject, "size": 2}
        fields: dict[str, Any] = {
            "subject": about,
            "artifactType": "application/vnd.example.sbom",
            "annotations": {"by": "a scanner"},
        }
        referrer = layouts.write(own.directory / "sbom", [Layer(tar("sbom"))], **fields)
        tag = f"{subject.replace(':', '-')}.sbom"
        run("skopeo", "copy", "--quiet", f"dir:{own.directory / 'sbom'}", own.store.skopeo_name(f"localhost/app:{tag}"))
        eventually(lambda: service.client.shows("app", tag, referrer))
        (listed,) = service.client.get(f"/v2/app/referrers/{subject}").json["manifests"]
        assert (listed["digest"], listed["artifactType"]) == (referrer, "application/vnd.example.sbom")
        assert listed["annotations"] == {"by": "a scanner"}
        own.store.podman("untag", f"localhost/app:{tag}")
        eventually(lambda: service.client.digest("app", tag) is None)


@pytest.mark.parametrize("program", ["podman", "skopeo"])
def test_a_signature_that_is_an_image_of_its_own_is_refused_by_podman_itself(own: Workshop, program: str) -> None:
    """Should a later podman take one, this test says that it is time to look at how it is served."""
    payload = json.dumps({"critical": {}}).encode()
    config = layouts.config([Layer(payload, SIGNATURE)])
    layouts.write(own.directory / "sig", [Layer(payload, SIGNATURE)], config)
    source = f"dir:{own.directory / 'sig'}"
    copy = "skopeo", "copy", source, own.store.skopeo_name("localhost/app:sha256-1.sig")
    done = ask(*((*own.store.command, "pull", source) if program == "podman" else copy))
    assert (done.returncode != 0, "unexpected EOF" in done.stderr) == (True, True)
    assert own.store.podman("images", "--quiet") == ""
