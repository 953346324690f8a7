"""Whatever podman, buildah or skopeo does to the store shows in the registry, with podman's own digest."""

from pathlib import Path

from tests.end_to_end.programs import eventually, run
from tests.end_to_end.services import Client, Service
from tests.end_to_end.stores import Store


def shows_podmans_digest(service: Service, name: str, repository: str, tag: str = "1") -> str:
    """Wait until a reference shows the digest that podman shows for a name, and return it."""
    digest = service.store.digest(name)
    eventually(lambda: service.client.shows(repository, tag, digest))
    return digest


def test_podman_build(service: Service) -> None:
    service.store.build("localhost/built:1")
    shows_podmans_digest(service, "localhost/built:1", "built")


def test_buildah_bud(service: Service) -> None:
    context = service.store.context("buildah bud")
    service.store.buildah("bud", "--quiet", "--tag", "localhost/bud:1", context)
    shows_podmans_digest(service, "localhost/bud:1", "bud")


def test_podman_build_in_docker_format(service: Service) -> None:
    context = service.store.context("docker format")
    service.store.podman("build", "--quiet", "--format", "docker", "--tag", "localhost/docker:1", context)
    shows_podmans_digest(service, "localhost/docker:1", "docker")
    answer = service.client.get("/v2/docker/manifests/1")
    assert answer.headers["content-type"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_podman_tag_and_untag(service: Service, store: Store, client: Client) -> None:
    store.build("localhost/tagged:1")
    store.podman("tag", "localhost/tagged:1", "quay.example.com:5000/org/tagged:2")
    digest = shows_podmans_digest(service, "localhost/tagged:1", "quay.example.com_5000/org/tagged", "2")
    eventually(lambda: client.shows("tagged", "1", digest))
    store.podman("untag", "localhost/tagged:1", "localhost/tagged:1")
    eventually(lambda: client.digest("tagged", "1") is None)
    assert client.shows("quay.example.com_5000/org/tagged", "2", digest)


def test_podman_untag_of_every_name(service: Service, store: Store, client: Client) -> None:
    store.build("localhost/nameless:1")
    store.podman("tag", "localhost/nameless:1", "localhost/nameless:2")
    shows_podmans_digest(service, "localhost/nameless:1", "nameless", "2")
    store.podman("untag", "localhost/nameless:1")
    eventually(lambda: client.digest("nameless", "1") is None and client.digest("nameless", "2") is None)


def test_podman_rmi_of_one_tag_of_several_and_of_the_last(service: Service, store: Store, client: Client) -> None:
    store.build("localhost/removed:1")
    store.podman("tag", "localhost/removed:1", "localhost/removed:2")
    digest = shows_podmans_digest(service, "localhost/removed:1", "removed", "2")
    store.podman("rmi", "localhost/removed:1")
    eventually(lambda: client.digest("removed", "1") is None)
    assert client.shows("removed", "2", digest)
    store.podman("rmi", "localhost/removed:2")
    eventually(lambda: client.get("/v2/removed/tags/list").json.get("tags", []) == [])
    eventually(lambda: "removed" not in client.get("/v2/_catalog").json["repositories"])


def test_a_rebuild_under_the_same_tag_moves_it(service: Service, store: Store, client: Client) -> None:
    store.build("localhost/rebuilt:1", "before")
    before = shows_podmans_digest(service, "localhost/rebuilt:1", "rebuilt")
    store.build("localhost/rebuilt:1", "after")
    after = shows_podmans_digest(service, "localhost/rebuilt:1", "rebuilt")
    assert before != after
    assert client.get(f"/v2/rebuilt/manifests/{before}").status == 200, "pulls of the old one must be able to finish"


def test_a_rename_withdraws_the_old_name(service: Service, store: Store, client: Client) -> None:
    store.build("localhost/old-name:1")
    shows_podmans_digest(service, "localhost/old-name:1", "old-name")
    store.podman("tag", "localhost/old-name:1", "localhost/new-name:1")
    store.podman("untag", "localhost/old-name:1", "localhost/old-name:1")
    shows_podmans_digest(service, "localhost/new-name:1", "new-name")
    eventually(lambda: client.digest("old-name", "1") is None)


def test_a_tag_moved_to_another_image_shows_that_one(service: Service, store: Store, client: Client) -> None:
    store.build("localhost/moved:1")
    store.build("localhost/moved:2", "another")
    shows_podmans_digest(service, "localhost/moved:1", "moved", "1")
    store.podman("tag", "localhost/moved:2", "localhost/moved:1")
    eventually(lambda: client.digest("moved", "1") == client.digest("moved", "2") is not None)


def test_podman_load_of_both_kinds_of_archives(service: Service, store: Store, client: Client, directory: Path) -> None:
    for kind in ("docker-archive", "oci-archive"):
        name, archive = f"localhost/{kind}:1", directory / kind
        image = store.build(name)
        shows_podmans_digest(service, name, kind)
        store.podman("save", "--quiet", "--format", kind, "--output", archive, name)
        store.podman("rmi", name)
        eventually(lambda kind=kind: client.digest(kind, "1") is None)  # type: ignore[misc]
        store.podman("load", "--quiet", "--input", archive)
        eventually(lambda kind=kind: client.digest(kind, "1"))  # type: ignore[misc]
        assert store.image_id(name) == image
        assert client.get(f"/v2/{kind}/manifests/1").json["config"]["digest"] == f"sha256:{image}"


def test_podman_import(service: Service, store: Store) -> None:
    store.podman("import", "--quiet", store.archive("imported"), "localhost/imported:1")
    shows_podmans_digest(service, "localhost/imported:1", "imported")


def test_podman_commit(service: Service, store: Store) -> None:
    store.build("localhost/to-commit:1")
    store.podman("create", "--network=none", "--name", "committed", "localhost/to-commit:1", "/file")
    store.podman("commit", "--quiet", "committed", "localhost/committed:1")
    store.podman("rm", "committed")
    shows_podmans_digest(service, "localhost/committed:1", "committed")


def test_buildah_commit_of_a_container_from_scratch(service: Service, store: Store) -> None:
    store.buildah("from", "--name", "nothing", "scratch")
    store.buildah("config", "--label", "made=by hand", "nothing")
    store.buildah("commit", "--quiet", "--rm", "nothing", "localhost/from-scratch:1")
    shows_podmans_digest(service, "localhost/from-scratch:1", "from-scratch")


def test_skopeo_copy_into_the_store(service: Service, store: Store, client: Client, directory: Path) -> None:
    store.build("localhost/copied:1")
    run("skopeo", "copy", "--quiet", store.skopeo_name("localhost/copied:1"), f"dir:{directory / 'd'}")
    store.podman("rmi", "localhost/copied:1")
    run("skopeo", "copy", "--quiet", f"dir:{directory / 'd'}", store.skopeo_name("localhost/copied:2"))
    shows_podmans_digest(service, "localhost/copied:2", "copied", "2")


def test_podman_pull_from_another_podbridge(service: Service, store: Store, own: Service) -> None:
    image = own.store.build("localhost/hello:1")
    own.start()
    name = f"{own.address}/hello:1"
    store.podman("pull", "--quiet", "--tls-verify=false", name)
    repository = f"{own.address.replace(':', '_')}/hello"
    digest = shows_podmans_digest(service, name, repository)
    assert digest == own.store.digest("localhost/hello:1"), "the digest is the same along the whole chain"
    assert store.image_id(name) == image


def test_podman_pull_without_a_name_publishes_nothing_until_it_is_tagged(
    service: Service, store: Store, directory: Path
) -> None:
    image = store.build("localhost/to-dir:1")
    run("skopeo", "copy", "--quiet", store.skopeo_name("localhost/to-dir:1"), f"dir:{directory / 'd'}")
    store.podman("rmi", "localhost/to-dir:1")
    assert store.podman("pull", "--quiet", f"dir:{directory / 'd'}") == image
    assert f"image {image}" in service.tell("explain", image)
    assert "only named images are published" in service.tell("explain", image)
    store.podman("tag", image, "localhost/from-dir:1")
    shows_podmans_digest(service, "localhost/from-dir:1", "from-dir")


def test_dangling_images_and_names_with_digests_are_left_out(service: Service, store: Store, client: Client) -> None:
    store.build("localhost/dangles:1", "the one that loses its name")
    digest = shows_podmans_digest(service, "localhost/dangles:1", "dangles")
    store.build("localhost/dangles:1", "the one that takes it")
    kept = shows_podmans_digest(service, "localhost/dangles:1", "dangles")
    store.podman("pull", "--quiet", "--tls-verify=false", f"{service.address}/dangles@{digest}")
    service.tell("resync")
    names = {line.split()[0] for line in service.tell("list").splitlines()[1:]}
    assert not [name for name in names if "@" in name or "none" in name]
    assert client.get("/v2/dangles/tags/list").json["tags"] == ["1"]
    assert client.shows("dangles", "1", kept)


def test_what_the_store_pulled_from_this_podbridge_is_not_published_again(service: Service, store: Store) -> None:
    store.build("localhost/round:1")
    shows_podmans_digest(service, "localhost/round:1", "round")
    store.podman("pull", "--quiet", "--tls-verify=false", f"{service.address}/round:1")
    service.tell("resync")
    catalog = service.client.get("/v2/_catalog").json["repositories"]
    assert not [name for name in catalog if name.startswith(service.address.replace(":", "_"))]
    assert "was pulled from this registry" in service.tell("explain", "localhost/round:1")
