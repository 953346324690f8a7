"""podbridge.service on a real systemd, in the local form: how it starts, what it says, how it ends."""

import contextlib
import json

from tests.end_to_end.programs import eventually
from tests.systemd.box import SERVICE, Box
from tests.systemd.conftest import SOCKETS, SYSTEM
from tests.systemd.visitors import outcome

_API = "/run/podbridge/api.sock"
_PULL = "podman", "--root=/tmp/other/r", "--runroot=/tmp/other/rr"
"""A podman with a store of its own: a client."""


def test_the_first_request_starts_the_service_and_is_answered(box: Box) -> None:
    box.run("systemctl", "start", *SOCKETS)
    assert box.unit("ActiveState") == "inactive"
    assert box.get("/v2/").status == 200
    eventually(lambda: box.unit("ActiveState") == "active")


def test_the_first_question_of_a_verb_starts_the_service_and_is_answered(box: Box) -> None:
    box.run("systemctl", "start", *SOCKETS)
    assert json.loads(box.run("podbridge", "status", "--json"))["registry"] == "127.0.0.1:5000"


def test_the_first_call_of_the_api_starts_the_service_and_is_answered(box: Box) -> None:
    name = "podbridge-api.socket"
    box.install({name: f"{SYSTEM}/{name}"})
    box.write("/etc/podbridge/podbridge.yaml", "api: {profile: read}\n")
    box.build("localhost/app:1")
    box.run("systemctl", "start", name)
    assert box.run("stat", "--format=%a %G", _API) == "660 podbridge"
    assert box.unit("ActiveState") == "inactive"
    assert "localhost/app" in box.run("podman", "--url", f"unix://{_API}", "images")
    eventually(lambda: box.unit("ActiveState") == "active")
    assert json.loads(box.run("podbridge", "status", "--json"))["sockets"]["api"] == _API
    assert box.run("systemctl", "is-active", name) == "active", "it is the unit's own socket that answers"


def test_an_api_socket_that_the_configuration_does_not_serve_is_named(box: Box) -> None:
    name = "podbridge-api.socket"
    box.install({name: f"{SYSTEM}/{name}"})
    box.run("systemctl", "start", name)
    box.ask("systemctl", "start", "--no-block", SERVICE)
    eventually(lambda: "systemd passed a socket that nobody serves here: api; " in box.journal())


def test_whose_a_socket_is_its_unit_says_whatever_the_configuration_says(box: Box) -> None:
    box.write("/etc/podbridge/podbridge.yaml", "control: {group: adm}\n")
    box.run("systemctl", "start", *SOCKETS, SERVICE)
    assert box.run("stat", "--format=%G", "/run/podbridge/control.sock") == "podbridge"
    eventually(lambda: box.journal().count("SocketGroup=adm") == 1)

    box.drop_in("podbridge-control.socket", "[Socket]\nSocketGroup=adm\n")
    box.run("systemctl", "stop", SERVICE)
    box.run("systemctl", "restart", *SOCKETS, SERVICE)
    assert box.run("stat", "--format=%G", "/run/podbridge/control.sock") == "adm"
    assert box.journal().count("SocketGroup=adm") == 1, "it is as it was asked for"


def test_it_serves_on_the_address_of_its_socket_unit_whatever_its_configuration_says(box: Box) -> None:
    box.write("/etc/podbridge/podbridge.yaml", "registry: {listen: '127.0.0.1:5001'}\n")
    box.drop_in("podbridge-registry.socket", "[Socket]\nListenStream=\nListenStream=5002\n")
    box.run("systemctl", "start", *SOCKETS, SERVICE)
    assert box.visitors.get("/v2/", "127.0.0.1:5002").status == 200
    assert json.loads(box.run("podbridge", "status", "--json"))["registry"] == "[::]:5002"
    box.build("localhost/app:1")
    box.run("podman", "tag", "localhost/app:1", "127.0.0.1:5001/there:1", "127.0.0.1:5002/pulled/from/itself:1")
    eventually(lambda: "there:1" in box.run("podbridge", "list"))
    assert "itself" not in box.run("podbridge", "list")


def test_a_socket_that_nobody_serves_is_named_and_not_served(box: Box) -> None:
    unit = "[Socket]\nListenStream=/run/podbridge/other.sock\nFileDescriptorName=other\nService=podbridge.service\n"
    box.write("/etc/systemd/system/other.socket", unit)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", "other.socket")
    box.ask("systemctl", "start", "--no-block", SERVICE)
    eventually(lambda: "podbridge: systemd passed a socket named 'other': set FileDescriptorName=" in box.journal())


def test_what_is_built_is_published_and_pulled_with_its_digest(serving: Box) -> None:
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    serving.run(*_PULL, "pull", "--quiet", "--tls-verify=false", "127.0.0.1:5000/app:1")
    assert serving.run(*_PULL, "images", "--format", "{{.Digest}}") == digest
    eventually(lambda: serving.unit("StatusText") == "1 published, watching")


def test_images_in_docker_format_and_lists_come_out_of_its_sandbox(serving: Box) -> None:
    """skopeo reads them, which wants more of a sandbox than podman does."""
    digest = serving.build("localhost/docker:1", ("--format=docker",))
    serving.build_list("localhost/list:1")
    eventually(lambda: serving.shows("docker", digest))
    eventually(lambda: serving.shows_list("list"))


def test_it_is_ready_when_its_first_pass_is_through(box: Box) -> None:
    digest = box.build("localhost/app:1")
    box.run("systemctl", "start", *SOCKETS, SERVICE)
    assert box.unit("StatusText") == "1 published, watching"
    assert box.shows("app", digest)


def test_where_podman_is_away_it_is_ready_and_says_what_stays_served(serving: Box) -> None:
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    serving.run("systemctl", "mask", "--now", "podman.socket", "podman.service")
    serving.write("/etc/podbridge/podbridge.yaml", "podman: {socket: 'unix:///run/away.sock'}\n")
    serving.run("systemctl", "restart", SERVICE)
    assert serving.unit("StatusText") == "podman is away, 1 published stay served"
    assert serving.shows("app", digest)


def test_a_restart_of_podman_is_survived(serving: Box) -> None:
    serving.run("systemctl", "restart", "podman.socket", "podman.service")
    serving.run("systemctl", "kill", "--signal=KILL", "podman.service")
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    assert serving.unit("NRestarts") == "0"


def test_two_restarts_under_load_lose_no_request(serving: Box) -> None:
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    asked = [serving.visitors.begin("/v2/app/manifests/1") for _ in range(300)]
    serving.run("systemctl", "restart", SERVICE)
    asked += [serving.visitors.begin("/v2/app/manifests/1") for _ in range(300)]
    serving.run("systemctl", "restart", SERVICE)
    assert {outcome(answer) for answer in asked} == {"200"}


def test_a_killed_service_is_back_and_lets_nobody_wait_in_vain(serving: Box) -> None:
    digest = serving.build("localhost/app:1")
    eventually(lambda: serving.shows("app", digest))
    serving.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", SERVICE)
    while True:  # refused is nobody; a worker that dies with its parent cuts whom it had just accepted
        with contextlib.suppress(ConnectionResetError):
            assert serving.shows("app", digest)
            break
    eventually(lambda: serving.unit("NRestarts") == "1")
    assert serving.shows("app", digest)


def test_a_service_whose_main_loop_stalls_is_started_again(box: Box) -> None:
    """Reading a configuration that is a pipe, into which nobody writes, never ends."""
    file = "/etc/podbridge/podbridge.yaml"
    box.drop_in(SERVICE, "[Service]\nWatchdogSec=5s\n")
    box.run("systemctl", "start", *SOCKETS, SERVICE)
    stalled = box.unit("MainPID")
    box.run("mkfifo", file)
    box.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", SERVICE)
    eventually(lambda: box.unit("ActiveState") != "active")  # "reloading", for as long as the watchdog lets it
    box.run("rm", file)
    eventually(lambda: box.unit("ActiveState") == "active" and box.unit("MainPID") not in ("0", stalled))
    eventually(lambda: "Watchdog timeout" in box.journal())
    assert box.get("/v2/").status == 200


def test_stopping_cancels_what_is_exported_and_leaves_nothing_of_it(serving: Box) -> None:
    gate = "while [ ! -e /gate ]; do sleep 0.1; done"
    serving.write(
        "/usr/local/bin/podman",
        f'#!/bin/sh\ncase "$*" in *"image save"*) {gate};; esac\nexec /usr/bin/podman "$@"\n',
        0o755,
    )
    serving.build("localhost/app:1")
    eventually(lambda: serving.unit("StatusText") == "0 of 1 published, exporting localhost/app:1")
    serving.run("systemctl", "stop", SERVICE, *SOCKETS)
    assert serving.unit("Result") == "success"
    assert serving.run("ls", "/var/lib/podbridge/staging") == ""
    assert serving.ask("pgrep", "--full", "image save").returncode == 1
