"""The verbs that ask a running service, as text for people and as JSON for programs."""

import json
import re
import shlex
import stat
from typing import Any

import pytest

from tests.end_to_end.programs import eventually, run
from tests.end_to_end.services import Service


def told(service: Service, *words: str) -> Any:
    """Return the JSON that a verb prints."""
    return json.loads(service.tell(*words, "--json"))


def complaint(service: Service, *words: str) -> str:
    """Return the one line of a verb that must fail with exit code 1."""
    done = service.ask(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("podbridge: ")
    return done.stderr.removeprefix("podbridge: ").strip()


def test_status_says_how_the_service_is(service: Service) -> None:
    status = told(service, "status")
    assert status["counts"] == {"images": 2, "published": 2, "pending": 0, "failed": 0, "held": 0, "heldBack": 0}
    assert (status["tree"], status["registry"]) == (str(service.tree), service.address)
    assert service.process is not None
    assert status["pid"] == service.process.pid
    assert {item["type"]: item["status"] for item in status["conditions"]} == dict.fromkeys(
        ("PodmanReachable", "EventsStreaming", "DoorbellArmed", "TreeWritable", "Synced", "Ready"), True
    )
    text = service.tell("status")
    assert f"http://{service.address}" in text
    assert "published 2, 0 pending, 0 failed, 0 held" in text
    assert "2 images in the store" in text
    first, *_, last = text.splitlines()
    assert re.fullmatch(rf"● podbridge \S+: in order, pid {service.process.pid}, up .+", first)
    assert re.fullmatch(r" +.+ ago +(hello|other):1 +sha256:[0-9a-f]{12}… +[\d.]+ \w+", last)


def test_status_in_a_terminals_colours_unless_no_color_is_set(service: Service) -> None:
    for environment, coloured in (("", True), ("NO_COLOR=1 ", False)):
        command = f"TERM=xterm {environment}{shlex.join(service.command('status'))}"
        shown = run("script", "--quiet", "--command", command, "/dev/null")
        assert ("\x1b[32m" in shown) is coloured, shown


def test_status_says_https_where_the_registry_speaks_it(own: Service) -> None:
    own.tell("config", "tls-init", "--host", "127.0.0.1", "--directory", str(own.directory / "tls"))
    tls = {"certificate": str(own.directory / "tls/server.crt"), "key": str(own.directory / "tls/server.key")}
    own.configure({"registry": {"listen": own.address, "tls": tls}})
    own.start()
    assert f"registry  https://{own.address}" in own.tell("status")


def test_list_shows_each_publication_with_podmans_digest(service: Service) -> None:
    publications = {item["reference"]: item for item in told(service, "list")}
    assert publications.keys() == {"hello:1", "other:1"}
    hello = publications["hello:1"]
    digest = service.store.digest("localhost/hello:1")
    assert (hello["digest"], hello["podmanDigest"], hello["fidelity"], hello["state"]) == (
        digest,
        digest,
        "exact",
        "Published",
    )
    assert (hello["name"], hello["image"]) == ("localhost/hello:1", service.store.image_id("localhost/hello:1"))
    header, *rows = service.tell("list").splitlines()
    assert header.split() == ["REFERENCE", "STATE", "DIGEST", "FIDELITY", "SIZE", "PUBLISHED"]
    assert rows[0].split()[:4] == ["hello:1", "Published", digest, "exact"]


@pytest.mark.parametrize("spelling", ["localhost/hello:1", "hello:1", "ID", "short ID", "sha256:ID"])
def test_explain_finds_an_image_as_podman_does(service: Service, spelling: str) -> None:
    image = service.store.image_id("localhost/hello:1")
    text = {"ID": image, "short ID": image[:12], "sha256:ID": f"sha256:{image}"}.get(spelling, spelling)
    said = service.tell("explain", text)
    assert said.splitlines()[0] == f"image {image}"
    digest = service.store.digest("localhost/hello:1")
    assert said.splitlines()[3:] == [
        "localhost/hello:1",
        "  default: published as hello:1",
        f"  → hello:1: published {digest}, exact: podman's own manifest",
    ]
    (decision,) = told(service, "explain", text)["decisions"]
    assert (decision["name"], decision["trace"]) == ("localhost/hello:1", ["default: published as hello:1"])


def test_explain_of_an_unknown_image(service: Service) -> None:
    assert complaint(service, "explain", "nothing") == "'nothing' is not in podman's store"


def test_publish_under_another_reference_and_withdraw(service: Service) -> None:
    digest = service.store.digest("localhost/hello:1")
    assert service.tell("publish", "hello:1", "--as", "by/hand:v1") == f"by/hand:v1 {digest} exact"
    assert service.client.shows("by/hand", "v1", digest)
    service.tell("resync")
    assert service.client.shows("by/hand", "v1", digest), "what was asked for by hand stays"
    assert "by request\n  published by hand\n  → by/hand:v1: published" in service.tell("explain", "hello:1")
    assert service.tell("withdraw", "by/hand:v1") == "by/hand:v1 is withdrawn"
    assert service.client.digest("by/hand", "v1") is None


def test_publish_as_json(service: Service) -> None:
    (publication,) = told(service, "publish", "other:1", "--as", "json:1")
    assert (publication["reference"], publication["requested"]) == ("json:1", True)
    service.tell("withdraw", "json:1")


def test_withdraw_of_what_podman_still_names_says_how_to_keep_it_out(service: Service) -> None:
    said = complaint(service, "withdraw", "hello:1")
    assert "the next pass would publish hello:1 again" in said
    assert "--hold" in said
    assert service.client.digest("hello", "1") is not None


def test_what_is_held_stays_out_until_it_is_published_by_hand(service: Service) -> None:
    assert service.tell("withdraw", "other:1", "--hold") == "other:1 is withdrawn, and held"
    assert service.client.digest("other", "1") is None
    service.tell("resync")
    assert service.client.digest("other", "1") is None
    assert told(service, "status")["counts"]["held"] == 1
    (held,) = (item for item in told(service, "list") if item["reference"] == "other:1")
    assert held["state"] == "Held"
    assert "podbridge publish" in held["message"]
    service.tell("publish", "other:1")
    assert service.client.shows("other", "1", service.store.digest("localhost/other:1"))
    assert told(service, "status")["counts"]["held"] == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["withdraw", "nothing:1"], "nothing:1 is not published"),
        (["withdraw", "nothing"], "not a reference: 'nothing'; expected NAME:TAG"),
        (["withdraw", "UPPER:1"], "not a repository name: 'UPPER'"),
        (["publish", "nothing"], "'nothing' is not in podman's store"),
        (["publish", "hello:1", "--as", "x"], "not a reference: 'x'; expected NAME:TAG"),
        (["publish", "hello:1", "--as", "../x:1"], "not a repository name: '../x'"),
        (["publish", "hello:1", "--as", "x:.y"], "not a tag: '.y'"),
        (["publish", ""], "'' is not in podman's store"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(service: Service, words: list[str], problem: str) -> None:
    assert complaint(service, *words).startswith(problem)


def test_resync_and_gc_say_what_they_did(service: Service) -> None:
    assert service.tell("resync") == "2 published, 0 pending"
    assert told(service, "resync")["counts"]["published"] == 2
    assert service.tell("gc").startswith("removed 0 superseded manifests and ")
    assert service.tell("gc", "--dry-run").startswith("would remove ")
    assert told(service, "gc", "--dry-run").keys() == {"manifests", "blobs", "freed"}


def test_the_control_socket_is_for_its_owner_and_group(service: Service) -> None:
    assert stat.S_IMODE(service.socket.stat().st_mode) == 0o660


def test_a_name_that_cannot_be_published_is_explained(own: Service) -> None:
    own.configure({"publish": [{"match": "localhost/*", "as": "{label[none]}:1"}, {"match": "*", "skip": True}]})
    image = own.store.build("localhost/bad:1")
    own.start()
    said = own.tell("explain", "bad:1")
    assert said.startswith(f"image {image}")
    assert "localhost/bad:1\n  not published: the image has no label 'none'" in said
    assert "name cannot be published name=localhost/bad:1" in own.said()
    own.store.podman("tag", "localhost/bad:1", "quay.io/skipped:1")
    eventually(lambda: "\n  not published: rule 2 skips it" in own.tell("explain", "bad:1"))


def test_two_names_for_one_reference_are_warned_of_once_and_by_name(own: Service) -> None:
    own.configure({"publish": [{"as": "{name}:{tag}"}]})
    own.store.build("localhost/a/same:1", "a")
    own.store.build("localhost/b/same:1", "b")
    own.start()
    own.tell("resync")
    (warning,) = (line for line in own.said().splitlines() if "two names for one reference" in line)
    assert "reference=same:1 published=localhost/a/same:1 left_out=localhost/b/same:1" in warning
    assert own.client.shows("same", "1", own.store.digest("localhost/a/same:1"))
