"""The verbs that ask a running service, as text for people and as JSON for programs."""

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import stat
import subprocess
from typing import Any

import pytest

from bridge.cli.ask import _STATES
from bridge.control.schema import State
from tests.end_to_end.programs import SOON, eventually, podbridge, run
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
    eventually(lambda: all(one["status"] is not None for one in told(service, "status")["conditions"]))
    status = told(service, "status")
    assert status["counts"] == {
        "images": 2,
        "published": 2,
        "pending": 0,
        "failed": 0,
        "denied": 0,
        "held": 0,
        "heldBack": 0,
    }
    assert (status["tree"], status["registry"]) == (str(service.tree), service.address)
    assert service.process is not None
    assert status["pid"] == service.process.pid
    assert {item["type"]: item["status"] for item in status["conditions"]} == dict.fromkeys(
        (
            *("PodmanReachable", "EventsStreaming", "DoorbellArmed", "TreeWritable", "TreeWhole", "Synced"),
            *("TasksRunning", "Ready"),
        ),
        True,
    )
    text = service.tell("status")
    assert f"http://{service.address}" in text
    assert "published 2, 0 pending, 0 failed, 0 denied, 0 held" in text
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


def test_status_says_https_from_the_reload_on_that_brought_tls(own: Service) -> None:
    own.start()
    assert f"registry  http://{own.address}" in own.tell("status")
    own.tell("config", "tls-init", "--host", "127.0.0.1", "--directory", str(own.directory / "tls"))
    tls = {"certificate": str(own.directory / "tls/server.crt"), "key": str(own.directory / "tls/server.key")}
    own.configure({"registry": {"listen": own.address, "tls": tls}})
    assert own.process is not None
    own.process.send_signal(signal.SIGHUP)
    eventually(lambda: f"registry  https://{own.address}" in own.tell("status"))
    run("curl", "--silent", "--fail", "--cacert", own.directory / "tls/ca.crt", f"https://{own.address}/v2/")
    own.configure({})
    own.process.send_signal(signal.SIGHUP)
    eventually(lambda: f"registry  http://{own.address}" in own.tell("status"))


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
        (["withdraw", ""], "not a reference: ''; expected NAME:TAG"),
        *((words, r"not UTF-8: '\udcff'") for words in (["publish", "\udcff"], ["explain", "\udcff"])),
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


def test_list_chooses_by_state_repository_and_image(service: Service) -> None:
    def listed(*words: str) -> list[str]:
        return [view["reference"] for view in told(service, "list", *words)]

    service.tell("publish", "hello:1", "--as", "by/hand:2")
    assert listed("--repository", "by/*") == ["by/hand:2"]
    assert listed("--state", "published", "--state", "held") == ["by/hand:2", "hello:1", "other:1"]
    assert listed("--image", "localhost/other:1") == ["other:1"]
    assert listed("--tree", str(service.tree), "--repository", "by/*") == ["by/hand:2"]
    service.tell("withdraw", "by/hand:2")
    assert listed() == ["hello:1", "other:1"]
    assert "by/hand:2" in listed("--state", "withdrawn")


def test_list_takes_every_state_and_says_which_there_are() -> None:
    assert [state.capitalize() for state in _STATES] == [*State]
    done = podbridge("list", "--state", "lost")
    assert done.returncode == 2
    assert all(state in done.stderr for state in _STATES)


def test_a_terminal_that_lacks_a_sign_shows_the_rest(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    assert service.tell("status").startswith("? podbridge ")


def test_publish_can_tell_only_and_need_not_wait(service: Service) -> None:
    image = service.store.image_id("localhost/hello:1")
    (would,) = told(service, "publish", "hello:1", "--as", "dry:1", "--dry-run")
    assert (would["reference"], would["state"], would["image"]) == ("dry:1", "Pending", image)
    assert service.tell("publish", "hello:1", "--as", "dry:1", "--dry-run") == "dry:1 pending"
    assert service.client.digest("dry", "1") is None
    assert service.tell("publish", "hello:1", "--as", "later:1", "--no-wait").startswith("later:1")
    eventually(lambda: service.client.digest("later", "1"))
    service.tell("withdraw", "later:1")


def test_publish_takes_a_reference_of_the_rules_only_by_force(own: Service) -> None:
    own.store.build("localhost/a:1", "a")
    own.store.build("localhost/b:1", "b")
    own.start()
    assert "or use `podbridge publish --force`" in complaint(own, "publish", "a:1", "--as", "b:1")
    own.tell("publish", "a:1", "--as", "b:1", "--force")
    assert own.client.shows("b", "1", own.store.digest("localhost/a:1"))


def test_publish_on_a_terminal_shows_how_far_it_is_and_what_came_of_it(service: Service) -> None:
    digest = service.store.digest("localhost/hello:1")
    said = on_terminal(service, "publish", "hello:1", "--as", "seen:1")
    assert "Published seen:1" in said
    assert f"seen:1 {digest} exact" in said
    assert "podbridge: 'nothing' is not in podman's store" in on_terminal(service, "publish", "nothing", code=1)
    service.tell("withdraw", "seen:1")


def on_terminal(service: Service, *words: str, code: int = 0) -> str:
    """Return what a verb says on a terminal, which must end with this exit code."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(service.command(*words), stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # EIO is how a terminal says that nobody is there any more
            while part := os.read(ours, 4096):
                said += part
    os.close(ours)
    assert process.returncode == code, said
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).replace("\r", "")


def test_resync_can_tell_only(service: Service) -> None:
    assert service.tell("resync", "--dry-run") == "nothing to do"
    assert told(service, "resync", "--dry-run") == {"publish": [], "withdraw": [], "heldBack": []}


def test_events_are_followed(service: Service) -> None:
    with subprocess.Popen(service.command("events", "--json"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        lines: list[str] = []

        def said() -> bool:
            service.tell("publish", "hello:1", "--as", "event:1")
            lines.extend(process.stdout.readlines() if process.stdout else [])
            return bool(lines)

        eventually(said)
        first = json.loads(lines[0])
        assert (first["action"], first["reference"]) == ("published", "event:1")
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == 0
    service.tell("withdraw", "event:1")
    with subprocess.Popen(
        service.command("events", "--since", first["id"]), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = [process.stdout.readline()]
        while "withdrawn" not in found[-1]:
            found.append(process.stdout.readline())
            assert found[-1]
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == 0
    assert re.fullmatch(r"\d\d:\d\d:\d\d withdrawn event:1 sha256:[0-9a-f]{64}\n", found[-1])
    assert "is not known any more" in complaint(service, "events", "--since", "1-1")
