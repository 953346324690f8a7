"""What a push to podbridge answers, held against what podman answers of a push to a plain registry."""

import json
from collections.abc import Iterator

import pytest

from tests import versions
from tests.relay.worlds import Answer, World, ask, world

IMAGE = "localhost/pushed:1"
LIST = "localhost/list:1"


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    """A world with an image and a list of it."""
    with world() as here:
        here.store.build(IMAGE)
        here.store.podman("manifest", "create", LIST)
        here.store.podman("manifest", "add", LIST, f"containers-storage:{IMAGE}")
        yield here


def push(here: World, path: str, *, ours: bool) -> Answer:
    """Push through podbridge to its registry, or without it to a plain one."""
    host = here.own if ours else here.plain
    return ask(here.bridge if ours else here.direct, f"POST {path.replace('HOST', host)}")


def test_a_quiet_push_is_an_empty_line(here: World) -> None:
    path = f"/v4.0.0/libpod/images/{IMAGE}/push?destination=HOST/quiet:1&tlsVerify=false"
    theirs, ours = push(here, path, ours=False), push(here, path, ours=True)
    assert (ours.status, ours.kind, ours.records) == (theirs.status, theirs.kind, theirs.records)
    assert ours.records == (b"\n",)
    assert here.registry.digest("quiet", "1") == here.store.digest(IMAGE)


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize(("version", "told"), [("4.0.0", False), ("4.5.9", False), ("4.6.0", True), ("5.2", True)])
def test_a_talking_push_streams_text_and_to_whom_it_reads_it_the_digest(
    here: World, version: str, told: bool, escaped: bool
) -> None:
    name = IMAGE.replace("/", "%2F").replace(":", "%3A") if escaped else IMAGE
    path = f"/v{version}/libpod/images/{name}/push?destination=HOST/talk:1&tlsVerify=false&quiet=false"
    theirs, ours = push(here, path, ours=False), push(here, path, ours=True)
    more = {("manifestdigest",)} if versions.A_PUSH_TELLS_ITS_DIGEST.holds() else set()
    assert {tuple(record) for record in theirs.json} == {("stream",)} | more
    assert ours.status == theirs.status == 200
    assert all(record.endswith(b"}\n") for record in (*theirs.records, *ours.records))
    *texts, last = ours.json if told else [*ours.json, {}]
    assert {tuple(record) for record in texts} == {("stream",)}
    assert last == ({"manifestdigest": here.store.digest(IMAGE)} if told else {})


@pytest.mark.parametrize("quiet", ["true", "false"])
def test_an_unknown_image_is_told_as_podman_tells_it(here: World, quiet: str) -> None:
    path = f"/v4.0.0/libpod/images/localhost/none:1/push?destination=HOST/none:1&tlsVerify=false&quiet={quiet}"
    theirs, ours = push(here, path, ours=False), push(here, path, ours=True)
    assert ours.status == theirs.status == (400 if quiet == "true" else 200)
    assert [sorted(record) for record in ours.json] == [sorted(record) for record in theirs.json]
    if quiet == "true":
        assert ours.kind == theirs.kind == "application/json"
        assert ours.json[0]["cause"] == theirs.json[0]["cause"] == "image not known"


def test_docker_is_told_the_digest_the_size_and_the_tag(here: World) -> None:
    here.store.podman("tag", IMAGE, f"{here.own}/dock:7", f"{here.plain}/dock:7")
    path = "/v1.41/images/HOST/dock/push?tag=7&tlsVerify=false"
    theirs, ours = push(here, path, ours=False), push(here, path, ours=True)
    assert ours.status == theirs.status == 200
    assert theirs.json[0] == {"status": f"The push refers to repository [{here.plain}/dock:7]"}
    assert ours.json[0] == {"status": f"The push refers to repository [{here.own}/dock:7]"}
    digest = here.registry.digest("dock", "7")
    size = len(here.registry.get("/v2/dock/manifests/7").body)
    assert theirs.json[-1]["status"].startswith("7: digest: sha256:")  # type: ignore[attr-defined]
    assert ours.json[-2:] == [
        {"status": f"7: digest: {digest} size: {size}"},
        {"progressDetail": {}, "aux": {"Tag": "7", "Digest": digest, "Size": size}},
    ]


def test_docker_is_told_404_before_anything_is_streamed(here: World) -> None:
    path = "/v1.41/images/HOST/none/push?tag=1&tlsVerify=false"
    theirs, ours = push(here, path, ours=False), push(here, path, ours=True)
    assert (ours.status, ours.kind) == (theirs.status, theirs.kind) == (404, "application/json")
    told = json.dumps(theirs.json).replace(here.plain, here.own)
    assert json.dumps(ours.json) == told


def test_what_is_no_reference_is_400(here: World) -> None:
    digest = here.store.digest(IMAGE)
    for destination in (f"HOST/app@{digest}", "HOST/UPPER:1", "HOST"):
        answer = push(here, f"/v4.0.0/libpod/images/{IMAGE}/push?destination={destination}", ours=True)
        assert (answer.status, answer.kind) == (400, "application/json")


@pytest.mark.parametrize("quiet", ["true", "false"])
def test_a_list_is_pushed_whole_and_its_digest_told(here: World, quiet: str) -> None:
    path = f"/v4.0.0/libpod/manifests/{LIST}/registry/HOST%2Fwhole:{quiet}?all=true&tlsVerify=false&quiet={quiet}"
    theirs, ours = push(here, path, ours=False), push(here, path, ours=True)
    assert ours.status == theirs.status == 200
    digest = here.registry.digest("whole", quiet)
    assert list(theirs.json[-1]) == ["Id"]
    assert ours.json[-1] == {"Id": digest}
    assert {tuple(record) for record in ours.json[:-1]} == {tuple(record) for record in theirs.json[:-1]}
    index = here.registry.get(f"/v2/whole/manifests/{quiet}").json
    assert [member["digest"] for member in index["manifests"]] == [here.store.digest(IMAGE)]


def test_a_list_is_pushed_by_its_older_path_too(here: World) -> None:
    answer = push(here, f"/v3.0.0/libpod/manifests/{LIST}/push?destination=HOST/older:1&all=true", ours=True)
    assert answer.json == [{"Id": here.registry.digest("older", "1")}]


def test_docker_learns_descriptor_and_platforms_of_what_is_published(here: World) -> None:
    push(here, f"/v4.0.0/libpod/images/{IMAGE}/push?destination=HOST/told:1", ours=True)
    push(here, f"/v4.0.0/libpod/manifests/{LIST}/registry/HOST/told:list", ours=True)
    for tag in ("1", "list"):
        manifest = here.registry.get(f"/v2/told/manifests/{tag}")
        for name in (f"told:{tag}", f"told@{manifest.digest}"):
            (told,) = ask(here.bridge, f"GET /v1.41/distribution/{here.own}/{name}/json").json
            assert told["Descriptor"] == {
                "mediaType": manifest.headers["content-type"],
                "digest": manifest.digest,
                "size": len(manifest.body),
            }
            assert told["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    missing = ask(here.bridge, f"GET /v1.41/distribution/{here.own}/none:1/json")
    assert (missing.status, missing.kind) == (404, "application/json")
