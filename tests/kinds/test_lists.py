"""Manifest lists are served whole, with exact digests, or not at all; and no registry is ever asked."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import oci
from tests import versions
from tests.end_to_end.programs import ask, eventually, run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store, survey
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, digest, tar
from tests.kinds.workshop import Workshop, held, listed, local, make_list

MEMBERS = {
    "oci": ("oci-amd64", "oci-arm64"),
    "docker": ("docker-amd64", "docker-arm64"),
    "mixed": ("docker-amd64", "oci-arm64"),
}


@pytest.fixture(scope="module")
def lists() -> Iterator[tuple[Workshop, Service]]:
    """A store with images for two architectures in both formats, and a service on it."""
    with scratch() as directory:
        workshop = Workshop(Store(directory), directory / "s", "")
        workshop.directory.mkdir()
        for architecture in ("amd64", "arm64"):
            workshop.take(written(workshop, f"oci-{architecture}", architecture), f"oci-{architecture}")
            source = written(workshop, f"docker-{architecture}", architecture, docker=True)
            workshop.take(source, f"docker-{architecture}")
        with Service(workshop.store, directory / "p") as service:
            yield workshop, service


@pytest.fixture
def workshop(lists: tuple[Workshop, Service]) -> Workshop:
    return lists[0]


@pytest.fixture
def service(lists: tuple[Workshop, Service]) -> Service:
    return lists[1]


def written(workshop: Workshop, name: str, architecture: str, *, docker: bool = False) -> str:
    """Write an image for an architecture; return the name of its `dir:` layout."""
    layers = [Layer(tar(name), oci.DOCKER_LAYER if docker else oci.OCI_LAYER)]
    content = layouts.config(layers, architecture=architecture)
    media_type = oci.DOCKER_MANIFEST if docker else oci.OCI_MANIFEST
    layouts.write(workshop.directory / name, layers, content, mediaType=media_type)
    return f"dir:{workshop.directory / name}"


def shows(service: Service, repository: str) -> str:
    """Wait until a list is served as podman holds it; return its digest."""
    now = held(service.store, f"localhost/{repository}:1")
    eventually(lambda: service.client.shows(repository, "1", now))
    wanted = f"{repository}:1", now
    eventually(lambda: wanted in [(one["reference"], one.get("digest")) for one in seen.views(service)])
    return now


@pytest.mark.parametrize("name", MEMBERS)
def test_a_list_is_served_whole_with_podmans_own_digest(
    workshop: Workshop, service: Service, directory: Path, name: str
) -> None:
    repository = f"list-{name}"
    image = make_list(workshop.store, f"localhost/{repository}:1", *local(*MEMBERS[name]))
    shown = shows(service, repository)
    encoded, index = seen.manifest(service.client, repository, "1")
    members = [seen.image(service.client, repository, entry["digest"]) for entry in index["manifests"]]
    assert [member.id for member in members] == [workshop.store.image_id(f"localhost/{one}:1") for one in MEMBERS[name]]
    view = seen.view(service, f"{repository}:1")
    assert (view["fidelity"], view["image"], view["digest"]) == ("exact", image, shown)
    workshop.store.podman("manifest", "push", "--all", f"localhost/{repository}:1", f"dir:{directory / 'pushed'}")
    assert (directory / "pushed" / "manifest.json").read_bytes() == encoded


def test_each_platform_pulls_its_member_into_an_empty_store(
    workshop: Workshop, service: Service, directory: Path
) -> None:
    make_list(workshop.store, "localhost/platforms:1", *local(*MEMBERS["mixed"]))
    shown = shows(service, "platforms")
    name = f"{service.address}/platforms:1"
    for architecture, member in zip(("amd64", "arm64"), MEMBERS["mixed"], strict=True):
        with scratch() as empty:
            image = Store(empty).podman("pull", "--quiet", "--tls-verify=false", "--arch", architecture, name)
            assert image == workshop.store.image_id(f"localhost/{member}:1")
            with Store(empty).mounted(name) as there, workshop.store.mounted(f"localhost/{member}:1") as here:
                assert survey(there) == survey(here)
    words = "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"
    run("skopeo", "copy", *words, f"docker://{name}", f"dir:{directory / 'copied'}")
    assert digest((directory / "copied" / "manifest.json").read_bytes()) == shown
    assert seen.raw(f"oci:{service.tree / 'repositories' / 'platforms' / '_oci'}:1") == shown


def test_the_listing_shows_a_list_as_an_empty_one_and_its_digest_beside_it(workshop: Workshop) -> None:
    store, name = workshop.store, "localhost/beside:1"
    make_list(store, name)
    empty = held(store, name)
    for member in MEMBERS["mixed"]:
        store.podman("manifest", "add", name, *local(member))
        told = listed(store, name)
        assert told["Digest"] == empty
        digests = {text.rpartition("@")[2] for text in told["RepoDigests"]}
        assert digests == {empty, held(store, name)}


def test_edits_that_emit_no_event_are_seen(workshop: Workshop, service: Service) -> None:
    store, name = workshop.store, "localhost/edited:1"
    make_list(store, name, *local("oci-amd64"))
    digests = [shows(service, "edited")]
    store.podman("manifest", "add", name, *local("docker-arm64"))
    digests.append(shows(service, "edited"))
    (_, second) = seen.manifest(service.client, "edited", "1")[1]["manifests"]
    store.podman("manifest", "annotate", "--annotation", "a=b", "--variant", "v8", name, second["digest"])
    digests.append(shows(service, "edited"))
    (_, second) = seen.manifest(service.client, "edited", "1")[1]["manifests"]
    assert (second["annotations"], second["platform"]["variant"]) == ({"a": "b"}, "v8")
    store.podman("manifest", "remove", name, second["digest"])
    digests.append(shows(service, "edited"))
    assert digests == [digests[0], digests[1], digests[2], digests[0]]
    assert len(set(digests)) == 3
    for superseded in digests:
        assert service.client.get(f"/v2/edited/manifests/{superseded}").status == 200, "pulls under way can finish"


def test_a_list_that_is_removed_is_withdrawn_and_its_members_stay(workshop: Workshop, service: Service) -> None:
    make_list(workshop.store, "localhost/removed:1", *local("oci-amd64"))
    shows(service, "removed")
    workshop.store.podman("manifest", "rm", "localhost/removed:1")
    eventually(lambda: service.client.digest("removed", "1") is None)
    assert service.client.shows("oci-amd64", "1", workshop.store.digest("localhost/oci-amd64:1"))


def test_a_missing_member_is_named_and_nothing_is_published_until_it_comes(
    workshop: Workshop, service: Service
) -> None:
    source = written(workshop, "late", "s390x")
    make_list(workshop.store, "localhost/lacking:1", source, *local("oci-amd64"))
    now = held(workshop.store, "localhost/lacking:1")
    failed = eventually(lambda: failure(service, "lacking:1", now))
    missing = digest((workshop.directory / "late" / "manifest.json").read_bytes())
    assert failed["message"].startswith(f"manifest list localhost/lacking:1 has member {missing} (linux/s390x)")
    assert "podman manifest remove" in failed["message"]
    assert failed["message"] in service.ask("status").stdout
    assert service.client.digest("lacking", "1") is None
    assert not (service.tree / "repositories" / "lacking").exists()
    workshop.take(source, "late")
    shows(service, "lacking")


def failure(service: Service, reference: str, digest: str) -> dict[str, Any]:
    """Return what `podbridge list` says of a list as podman holds it now, where that failed; nothing before."""
    view = seen.view(service, reference)
    return view if (view["state"], view["podmanDigest"]) == ("Failed", digest) else {}


def test_a_published_list_outlives_a_member_that_leaves_the_store(workshop: Workshop, service: Service) -> None:
    workshop.take(written(workshop, "leaving", "riscv64"), "leaving")
    make_list(workshop.store, "localhost/shrinking:1", *local("leaving"))
    shows(service, "shrinking")
    workshop.store.podman("rmi", "localhost/leaving:1")
    eventually(lambda: service.client.digest("leaving", "1") is None)
    (entry,) = seen.manifest(service.client, "shrinking", "1")[1]["manifests"]
    seen.image(service.client, "shrinking", entry["digest"])


def test_a_member_whose_bytes_podman_no_longer_has_is_named(workshop: Workshop, service: Service) -> None:
    plain = Path(written(workshop, "plain", "ppc64le").removeprefix("dir:"))
    there = workshop.convert(plain, f"dir:{workshop.directory / 'squeezed'}", "--dest-compress")
    workshop.pull(there, "squeezed")
    make_list(workshop.store, "localhost/hopeless:1", *local("squeezed"))
    eventually(lambda: "was pulled compressed" in service.ask("status").stdout)
    member = digest((workshop.directory / "squeezed" / "manifest.json").read_bytes())
    told = f"member {member} (linux/ppc64le)"  # it may be tried anew: podman first listed it with no member
    eventually(lambda: told in seen.view(service, "hopeless:1").get("message", ""))
    assert service.client.digest("hopeless", "1") is None


def test_a_list_without_members_says_so(workshop: Workshop, service: Service) -> None:
    make_list(workshop.store, "localhost/bare:1")
    eventually(lambda: "manifest list localhost/bare:1 has no member yet" in service.ask("status").stdout)
    workshop.store.podman("manifest", "add", "localhost/bare:1", *local("oci-arm64"))
    shows(service, "bare")


def test_no_registry_is_asked_for_a_list_or_an_image_that_is_named_after_one(
    workshop: Workshop, service: Service
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        host = "{}:{}".format(*canary.getsockname())
        workshop.store.podman("tag", "localhost/oci-amd64:1", f"{host}/image:1")
        make_list(workshop.store, f"{host}/list:1", f"containers-storage:{host}/image:1")
        now = held(workshop.store, f"{host}/list:1")
        eventually(lambda: service.client.shows(f"{host.replace(':', '_')}/list", "1", now))
        service.tell("resync")
        service.tell("explain", f"{host}/list:1")
        service.tell("explain", f"{host}/image:1")
        workshop.store.podman("manifest", "annotate", "--os", "freebsd", f"{host}/list:1", _only_member(service, host))
        now = held(workshop.store, f"{host}/list:1")
        eventually(lambda: service.client.shows(f"{host.replace(':', '_')}/list", "1", now))
        workshop.store.podman("untag", "localhost/oci-amd64:1", f"{host}/image:1")
        workshop.store.podman("manifest", "rm", f"{host}/list:1")
        eventually(lambda: service.client.digest(f"{host.replace(':', '_')}/list", "1") is None)
        with pytest.raises(BlockingIOError):
            canary.accept()


def _only_member(service: Service, host: str) -> str:
    _, index = seen.manifest(service.client, f"{host.replace(':', '_')}/list", "1")
    (entry,) = index["manifests"]
    return str(entry["digest"])


def test_a_list_in_a_list_is_refused_by_podman_itself(workshop: Workshop) -> None:
    """Should a later podman allow it, this test says that it is time to serve one."""
    make_list(workshop.store, "localhost/inner:1", *local("oci-amd64"))
    workshop.store.podman("manifest", "create", "localhost/outer:1")
    done = ask(*workshop.store.command, "manifest", "add", "localhost/outer:1", *local("inner"))
    index = json.loads(run("skopeo", "inspect", "--raw", workshop.store.skopeo_name("localhost/outer:1")))
    assert (done.returncode, index["manifests"]) == (125, None)


LOSSES: dict[str, Callable[[Path], object]] = {
    "lost": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:100]),
}
"""What a killed build or a full disk makes of the file in which podman keeps a manifest."""


def damage(service: Service) -> list[str]:
    """Return the IDs of the images that podman cannot read, empty for one that it does not name; in order."""
    return sorted(one.get("image", "") for one in json.loads(service.ask("status", "--json").stdout).get("damage", []))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("whose", ["list", "member"])
def test_a_list_or_a_member_that_is_damaged_is_named_and_takes_nothing_from_what_is_published(
    own: Workshop, directory: Path, whose: str, loss: str
) -> None:
    is_blind = (whose, loss) == ("list", "lost") and versions.A_LISTING_FAILS_FOR_A_LOST_LIST.holds()
    is_named = loss == "lost" or not versions.A_LISTING_NAMES_NO_GARBLED_MANIFEST.holds()
    for architecture in ("amd64", "arm64"):
        own.take(written(own, architecture, architecture), architecture)
    image = make_list(own.store, "localhost/list:1", *local("amd64", "arm64"))
    with Service(own.store, directory / "p") as service:
        before = {name: shows(service, name) for name in ("amd64", "arm64", "list")}
        damaged = image if whose == "list" else own.store.image_id("localhost/arm64:1")
        LOSSES[loss](own.store.directory / "r" / "overlay-images" / damaged / "manifest")
        own.store.build("localhost/later:1")
        if is_blind:
            eventually(lambda: damaged in service.ask("status").stdout)
        else:
            eventually(lambda: service.client.digest("later", "1"))
            assert eventually(lambda: damage(service)) == ([damaged] if is_named else ["", damaged])
        assert {name: service.client.digest(name, "1") for name in before} == before
        cold = Service(own.store, directory / "cold").ask("sync")
        assert cold.returncode == 1
        if is_blind:
            assert damaged in cold.stderr
        else:
            assert (f"podman rmi -f {damaged}" if is_named else "unexpected end of JSON input") in cold.stderr
            assert cold.stdout.startswith({"list": "3 published", "member": "2 published"}[whose])
        own.store.podman("rmi", "--force", damaged)
        eventually(lambda: damage(service) == [])
        eventually(lambda: service.client.digest("later", "1"))
        gone = {"list": ("list",), "member": ("arm64",)}[whose]
        eventually(lambda: all(service.client.digest(name, "1") is None for name in gone))
        kept = {name: digest for name, digest in before.items() if name not in gone}
        assert {name: service.client.digest(name, "1") for name in kept} == kept
