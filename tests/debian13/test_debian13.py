"""The same service, another podman and another systemd."""

import pytest

from tests.end_to_end.programs import eventually
from tests.systemd.box import SERVICE, Box

pytestmark = pytest.mark.timeout(900)  # the first one waits for debootstrap

_CLIENT = "podman", "--root=/tmp/other/r", "--runroot=/tmp/other/rr"


def test_it_is_podman_5_and_a_later_systemd(box: Box) -> None:
    assert box.run("podman", "--version").startswith("podman version 5.")
    assert box.run("systemctl", "--version").startswith("systemd 257 ")


def test_what_is_built_is_published_pulled_with_its_digest_and_withdrawn(box: Box) -> None:
    digest = box.build("localhost/app:1")
    eventually(lambda: box.shows("app", digest))
    box.run(*_CLIENT, "pull", "--quiet", "--tls-verify=false", "127.0.0.1:5000/app:1")
    assert box.run(*_CLIENT, "images", "--format={{.Digest}}") == digest
    box.run("podman", "rmi", "localhost/app:1")
    eventually(lambda: box.get("/v2/app/manifests/1").status == 404)


def test_an_image_in_docker_format_keeps_its_digest(box: Box) -> None:
    digest = box.build("localhost/docker:1", options=("--format=docker",))
    eventually(lambda: box.shows("docker", digest))


def test_a_manifest_list_is_published_whole(box: Box) -> None:
    box.build_list("localhost/list:1")
    eventually(lambda: box.shows_list("list"))


def test_an_artifact_is_no_image_and_not_published(box: Box) -> None:
    """`podman artifact` keeps a store of its own, which no listing of images shows and no `image save` reads."""
    box.write("/build/artifact", "an artifact")
    box.run("podman", "artifact", "add", "localhost/artifact:1", "/build/artifact")
    digest = box.build("localhost/after:1")
    eventually(lambda: box.shows("after", digest))
    assert "artifact" not in box.run("podman", "images")
    assert box.get("/v2/artifact/manifests/1").status == 404
    assert box.ask("podman", "image", "save", "--output=/tmp/a", "localhost/artifact:1").returncode == 125


def test_it_reloads_and_restarts(box: Box) -> None:
    digest = box.build("localhost/app:1")
    eventually(lambda: box.shows("app", digest))
    box.write("/etc/podbridge/podbridge.yaml", 'publish: [{match: "*", as: "moved/{path}:{tag}"}]\n')
    box.run("systemctl", "reload", SERVICE)
    eventually(lambda: box.shows("moved/app", digest))
    box.run("systemctl", "restart", SERVICE)
    assert box.shows("moved/app", digest)
