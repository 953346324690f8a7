"""The confined form: a user of its own, who has podman's socket and nothing else of podman."""

import gzip
import json

import pytest

from bridge.oci import Digest
from tests.end_to_end.programs import IDLE, eventually
from tests.systemd.box import SERVICE, Box
from tests.systemd.conftest import SOCKETS, SYSTEM

_CONFINED = {
    "confined.conf": f"{SYSTEM}/{SERVICE}.d/confined.conf",
    "podman.socket.conf": f"{SYSTEM}/podman.socket.d/podbridge.conf",
    "tmpfiles-confined.conf": "/etc/tmpfiles.d/podbridge-confined.conf",
}


@pytest.fixture
def confined(box: Box) -> Box:
    """A machine with the confined form, started."""
    box.install(_CONFINED)
    box.run("systemctl", "restart", "podman.socket")
    box.run("systemctl", "enable", "--now", *SOCKETS, SERVICE)
    return box


def test_a_user_who_is_not_root_publishes_what_root_builds(confined: Box) -> None:
    digest = confined.build("localhost/app:1")
    eventually(lambda: confined.shows("app", digest))
    status = confined.run("cat", f"/proc/{confined.unit('MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split() == [confined.run("id", "-u", "podbridge")] * 4
    assert fields["CapPrm"] == fields["CapBnd"] == "0" * 16
    assert fields["NoNewPrivs"] == "1"
    assert confined.run("stat", "--format=%U", "/var/lib/podbridge/podbridge.json") == "podbridge"


def test_images_in_docker_format_come_out_of_its_sandbox(confined: Box) -> None:
    digest = confined.build("localhost/docker:1", ("--format=docker",))
    eventually(lambda: confined.shows("docker", digest))


@pytest.mark.timeout(1000)
def test_its_layers_are_compressed_for_the_wire(confined: Box) -> None:
    confined.write("/etc/podbridge/podbridge.yaml", "encodings: {loopback: true}\n")
    confined.run("systemctl", "restart", SERVICE)
    digest = confined.build("localhost/app:1", content="a layer that shrinks " * 10_000)
    eventually(lambda: confined.shows("app", digest))
    (layer,) = json.loads(confined.get("/v2/app/manifests/1").body)["layers"]
    encoded = f"/var/lib/podbridge/encoded/gzip/{Digest.parse(layer['digest']).hex}"
    eventually(lambda: confined.ask("test", "-s", encoded).returncode == 0, IDLE)
    assert confined.run("stat", "--format=%U", encoded) == "podbridge"
    answer = confined.get(f"/v2/app/blobs/{layer['digest']}", {"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert str(Digest.of(gzip.decompress(answer.body))) == layer["digest"]


def test_a_service_can_be_switched_to_it_and_back_and_keeps_its_tree(serving: Box) -> None:
    first = serving.build("localhost/first:1")
    eventually(lambda: serving.shows("first", first))
    serving.install(_CONFINED)
    serving.run("systemctl", "restart", "podman.socket", SERVICE)
    second = serving.build("localhost/second:1")
    eventually(lambda: serving.shows("second", second))
    serving.run("rm", f"{SYSTEM}/{SERVICE}.d/confined.conf")
    serving.run("systemctl", "daemon-reload")
    serving.run("systemctl", "restart", SERVICE)
    third = serving.build("localhost/third:1")
    eventually(lambda: serving.shows("third", third))
    assert serving.shows("first", first)
    assert serving.shows("second", second)
