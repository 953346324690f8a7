"""A damaged tree: `verify` says so, `--repair` takes out what is damaged, and it is published whole again."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.end_to_end.programs import eventually, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store

PARTS = ("manifest", "config", "layer", "shared layer")


def build(store: Store) -> None:
    """Build two images on one base, and one that has nothing in common with them."""
    for name in ("base", "app", "other"):
        context = store.context(name)
        if name != "base":
            (context / "Containerfile").write_text("FROM localhost/base:1\nCOPY file /other\n", encoding="utf-8")
        store.podman("build", "--quiet", "--pull=never", "--tag", f"localhost/{name}:1", context)
    store.podman("untag", "localhost/base:1")
    store.build("localhost/apart:1")


def digests(service: Service) -> dict[str, str]:
    """Return the digest of each part of `app:1`, as the tree has it."""
    (shown,) = json.loads((service.tree / "repositories/app/_oci/index.json").read_bytes())["manifests"]
    manifest = json.loads(blob(service, shown["digest"]).read_bytes())
    found = (shown, manifest["config"], manifest["layers"][1], manifest["layers"][0])
    return {part: descriptor["digest"] for part, descriptor in zip(PARTS, found, strict=True)}


def blob(service: Service, digest: str) -> Path:
    return service.tree / "blobs" / digest.replace(":", "/")


def damage(service: Service, digest: str) -> None:
    """Flip a bit of a blob, as a disk does: in all its places at once, since they are one file."""
    content = bytearray(blob(service, digest).read_bytes())
    content[len(content) // 2] ^= 1
    blob(service, digest).write_bytes(content)


def served(service: Service) -> dict[str, bool]:
    """Say of each repository whether everything that it serves has its digest."""
    found = {}
    for repository in service.client.get("/v2/_catalog").json["repositories"]:
        manifest = service.client.get(f"/v2/{repository}/manifests/1")
        wanted = [manifest.json["config"]["digest"], *(layer["digest"] for layer in manifest.json["layers"])]
        bodies = [service.client.get(f"/v2/{repository}/blobs/{digest}").body for digest in wanted]
        true = [f"sha256:{hashlib.sha256(body).hexdigest()}" for body in (manifest.body, *bodies)]
        found[repository] = true == [service.store.digest(f"localhost/{repository}:1"), *wanted]
    return found


WHOLE = {"apart": True, "app": True, "other": True}


@pytest.mark.parametrize("part", PARTS)
def test_what_a_repair_takes_out_the_next_pass_publishes_whole_again(own: Service, part: str) -> None:
    build(own.store)
    own.tell("sync")
    own.start("registry")
    damaged = digests(own)[part]
    damage(own, damaged)
    own.client.get(f"/v2/app/blobs/{damaged}")  # whoever serves it must not remember it
    told = own.ask("verify")
    assert told.returncode == 1
    assert told.stdout.startswith(f"blob {damaged.removeprefix('sha256:')}: its bytes have digest sha256:")
    repaired = own.ask("verify", "--repair")
    assert (repaired.returncode, " found and mended or taken out; " in repaired.stdout) == (1, True)
    assert own.tell("verify") == "the tree is whole"
    assert served(own) == ({"apart": True} if part == "shared layer" else {"apart": True, "other": True})
    own.tell("sync")
    assert served(own) == WHOLE
    assert own.tell("verify") == "the tree is whole"


def test_a_repair_is_refused_beside_a_service_and_the_next_one_publishes_whole_again(own: Service) -> None:
    build(own.store)
    own.start()
    damage(own, digests(own)["layer"])
    refused = own.ask("verify", "--repair")
    assert (refused.returncode, "another podbridge, pid " in refused.stderr) == (1, True)
    own.end()
    assert own.ask("verify", "--repair").returncode == 1
    own.start()
    eventually(lambda: served(own) == WHOLE)
    with scratch() as empty:
        pulled = Store(empty).podman("pull", "--quiet", "--tls-verify=false", f"{own.address}/app:1")
        assert pulled == own.store.image_id("localhost/app:1")
    assert own.tell("verify") == "the tree is whole"
