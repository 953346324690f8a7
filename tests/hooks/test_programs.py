"""The hooks in hooks/, on real publications of a real podman."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.programs import eventually, scratch
from tests.end_to_end.registries import docker_registry
from tests.end_to_end.services import Client, Service
from tests.end_to_end.stores import Store
from tests.hooks.shelf import Shelf

HOOKS = Path(__file__).parents[2] / "hooks"
EVENTS = "application/vnd.docker.distribution.events.v2+json"
REGISTRY = shutil.which("docker-registry")


@dataclass(frozen=True, slots=True)
class Place:
    """A service that is not started yet, and where its hooks lie."""

    service: Service
    shelf: Shelf

    @property
    def store(self) -> Store:
        """The podman store of the service."""
        return self.service.store

    def enable(self, name: str, *stages: str, **settings: str) -> None:
        """Install one of hooks/, as an operator does: a link for each stage, and a file with settings."""
        for stage in stages:
            directory = self.shelf.directory / f"{stage}.d"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / name).symlink_to(HOOKS / name)
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.shelf.directory / f"{name}.conf").write_text(lines)

    def shows(self, repository: str, tag: str, name: str) -> None:
        """Wait until a tag shows what a podman name does."""
        eventually(lambda: self.service.client.shows(repository, tag, self.store.digest(name)))

    def build(self, name: str, *words: str) -> str:
        """Build a small image with more options."""
        return self.store.podman("build", "--quiet", "--tag", name, *words, self.store.context(name))

    def commit(self, name: str, label: str) -> None:
        """Make an image with a label, which may have line breaks: `podman build` 5.8 does not pass them on."""
        buildah = self.store.buildah
        buildah("from", "--name", "labelled", "scratch")
        buildah("config", "--label", label, "labelled")
        buildah("commit", "--quiet", "--rm", "labelled", name)

    def list(self, name: str, member: str) -> None:
        """Make a manifest list of one image."""
        self.store.podman("manifest", "create", name)
        self.store.podman("manifest", "add", name, f"containers-storage:{member}")


@pytest.fixture
def place() -> Iterator[Place]:
    """A service of its own; ended after the test if it runs."""
    with scratch() as directory:
        shelf = Shelf(directory / "hooks.d")
        service = Service(Store(directory), directory / "p", {"hooks": {"directories": [str(shelf.directory)]}})
        yield Place(service, shelf)
        if service.process is not None and service.process.poll() is None:
            service.end()


def test_a_build_runs_hooks_with_the_right_document(place: Place) -> None:
    place.shelf.record("verify")
    place.shelf.record("post-publish")
    with place.service:
        place.build("localhost/team/app:1", "--label=stage=prod")
        place.shows("team/app", "1", "localhost/team/app:1")
        eventually(lambda: place.shelf.documents("post-publish"))
        before, after = place.shelf.documents()
        digest = place.store.digest("localhost/team/app:1")
        for told in (before, after):
            assert (told["reference"], told["digest"], told["fidelity"]) == ("team/app:1", digest, "exact")
            assert told["image"]["id"] == place.store.image_id("localhost/team/app:1")
            assert told["image"]["labels"]["stage"] == "prod"
            assert (told["image"]["architecture"], told["image"]["os"]) == (architecture(place), "linux")
        assert set(before["image"]) == set(after["image"])
        assert "PODBRIDGE_LABELS" in place.shelf.heard()[0]["environment"]


def architecture(place: Place) -> str:
    return place.store.podman("info", "--format", "{{.Host.Arch}}")


def test_buildah_and_skopeo_emit_no_event_and_run_hooks_by_the_doorbell(place: Place) -> None:
    place.shelf.record("pre-publish")
    with place.service:
        eventually(lambda: re.search(r"DoorbellArmed +yes", place.service.ask("status").stdout))
        place.store.buildah("bud", "--quiet", "--tag", "localhost/built:1", place.store.context("built"))
        place.shows("built", "1", "localhost/built:1")
        skopeo = ["skopeo", "copy", "--quiet", place.store.skopeo_name("localhost/built:1")]
        subprocess.run([*skopeo, place.store.skopeo_name("localhost/copied:1")], check=True)
        place.shows("copied", "1", "localhost/copied:1")
    told = [(one["reference"], one["trigger"]) for one in place.shelf.documents()]
    assert told == [("built:1", "doorbell"), ("copied:1", "doorbell")]


def test_verify_gets_a_layout_that_skopeo_and_umoci_read(place: Place) -> None:
    out = place.shelf.directory
    place.shelf.put(
        "verify",
        "10-read",
        f"""set -e
skopeo inspect --raw "oci:$PODBRIDGE_LAYOUT:$PODBRIDGE_TAG" >{out}/manifest
umoci list --layout "$PODBRIDGE_LAYOUT" >{out}/tags
echo "sha256:$(sha256sum {out}/manifest | cut -d' ' -f1)" >{out}/digest""",
    )
    with place.service:
        place.build("localhost/app:1")
        place.shows("app", "1", "localhost/app:1")
    assert place.shelf.lines("tags") == ["1"]
    assert place.shelf.lines("digest") == [place.store.digest("localhost/app:1")]


def test_10_require_label(place: Place) -> None:
    place.enable("10-require-label", "pre-publish", LABELS="maintainer stage=prod")
    with place.service:
        place.build("localhost/none:1")
        place.build("localhost/other:1", "--label=maintainer=x", "--label=stage=production")
        place.build("localhost/good:1", "--label=maintainer=x", "--label=stage=prod")
        place.shows("good", "1", "localhost/good:1")
        said = eventually(lambda: [line for line in listed(place) if "Denied" in line][1:])
        assert "other:1" in said[0]
        assert "denied by 10-require-label: the image has no label stage=prod" in said[0]
        assert "the image has no label maintainer" in place.service.ask("status").stdout


def listed(place: Place) -> list[str]:
    return place.service.tell("list").splitlines()


def test_20_max_size(place: Place) -> None:
    place.enable("20-max-size", "verify", MAX_MEGABYTES="3")
    with place.service:
        place.store.build("localhost/small:1")
        place.store.build_large("localhost/large:1", 4)
        place.shows("small", "1", "localhost/small:1")
        (said,) = eventually(lambda: [line for line in listed(place) if "Denied" in line])
        assert "large:1" in said
        assert "the image has 4 MB, and only smaller ones than 3 MB are published" in said


@dataclass(slots=True)
class Receiver:
    """Hears notifications as their receivers do; answers 503 to the first."""

    address: str = ""
    heard: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    refused: int = 0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real HTTP server."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if not receiver.refused:
                receiver.refused = 1
                self.send_error(503)
                return
            receiver.heard.append((dict(self.headers), json.loads(content)))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        receiver.address = f"http://127.0.0.1:{server.server_port}/hook"
        yield receiver
        server.shutdown()
        thread.join()


def test_50_webhook_posts_what_receivers_of_a_registry_understand(place: Place, receiver: Receiver) -> None:
    registry = f"http://{place.service.address}"
    place.enable(
        "50-webhook", "post-publish", "post-withdraw", URL=receiver.address, REGISTRY=registry, AUTHORIZATION="Bearer x"
    )
    with place.service:
        place.build("localhost/team/app:1")
        eventually(lambda: receiver.heard)
        digest = place.store.digest("localhost/team/app:1")
        headers, ((pushed,),) = receiver.heard[0][0], receiver.heard[0][1].values()
        target = pushed["target"]
        manifest = place.service.client.get(target["url"].removeprefix(registry))
        assert manifest.digest == digest
        place.store.podman("untag", "localhost/team/app:1")
        eventually(lambda: len(receiver.heard) == 2)
    assert receiver.refused == 1
    assert (headers["Content-Type"], headers["Authorization"]) == (EVENTS, "Bearer x")
    assert (pushed["action"], target["repository"], target["tag"]) == ("push", "team/app", "1")
    assert (target["digest"], target["mediaType"]) == (digest, manifest.headers["content-type"])
    assert pushed["request"]["host"] == place.service.address
    ((deleted,),) = receiver.heard[1][1].values()
    assert (deleted["action"], deleted["target"]["digest"], deleted["target"]["tag"]) == ("delete", digest, "1")
    assert "Bearer" not in place.service.said()


def test_50_log_journal_writes_an_entry_with_fields(place: Place) -> None:
    path = place.shelf.directory / "journal"
    place.shelf.directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        journal.settimeout(60)
        place.enable("50-log-journal", "post-publish", JOURNAL=str(path))
        with place.service:
            place.commit("localhost/app:1", "two=lines\nof it")
            fields = dict(entry(journal.recv(100_000)))
    digest = fields["PODBRIDGE_DIGEST"]
    assert fields["MESSAGE"] == f"post-publish app:1 {digest}"
    assert (fields["SYSLOG_IDENTIFIER"], fields["PRIORITY"]) == ("podbridge-hooks", "6")
    assert "two=lines of it" in fields["PODBRIDGE_LABELS"].splitlines()


def entry(content: bytes) -> Iterator[tuple[str, str]]:
    """Read an entry in the journal's native form."""
    while content:
        key, content = content.split(b"\n", 1)
        size = int.from_bytes(content[:8], "little")
        yield key.decode(), content[8 : 8 + size].decode()
        content = content[8 + size + 1 :]


def test_60_auto_update_tells_each_host_and_names_those_that_do_not_answer(place: Place) -> None:
    out = place.shelf.directory / "told"
    stub = place.shelf.write(
        "bin", "ssh", f'#!/bin/sh\nprintf "%s\\n" "$*" >>{out}\ncase $* in *away*) exit 255 ;; esac\n'
    )
    path = f"{stub.parent}:{os.environ['PATH']}"
    place.enable("60-auto-update", "post-publish", HOSTS="core@one core@away", MATCH="team/*", PATH=path)
    with place.service:
        place.build("localhost/other:1")
        place.build("localhost/team/app:1")
        eventually(lambda: len(place.shelf.lines("told")) == 2)
        eventually(lambda: "not updated: core@away" in place.service.said())
    options = "-n -o BatchMode=yes -o ConnectTimeout=10 --"
    told = [f"{options} {host} podman auto-update" for host in ("core@away", "core@one")]
    assert sorted(place.shelf.lines("told")) == told


def test_a_denied_list_is_not_asked_about_again_because_another_image_came(place: Place) -> None:
    asked = place.shelf.directory / "asked"
    place.shelf.put("pre-publish", "10-no", f'[ "$PODBRIDGE_REPOSITORY" != list ] || {{ echo >>{asked}; exit 1; }}')
    place.build("localhost/member:1")
    place.list("localhost/list:1", "localhost/member:1")
    with place.service:
        eventually(lambda: [line for line in listed(place) if line.startswith("list:1 ") and "Denied" in line])
        place.build("localhost/other:1")
        place.shows("other", "1", "localhost/other:1")
        place.service.tell("status")
    assert len(place.shelf.lines("asked")) == 1


@pytest.mark.skipif(REGISTRY is None, reason="docker-registry is not installed; contrib/check unpacks it")
def test_90_copy_to_registry_keeps_the_digest(place: Place) -> None:
    with docker_registry(place.store.directory) as address:
        place.enable(
            "90-copy-to-registry", "post-publish", UPSTREAM=f"{address}/mirror", OPTIONS="--dest-tls-verify=false"
        )
        upstream = Client(address)
        with place.service:
            place.build("localhost/team/app:1")
            place.build("localhost/docker:1", "--format=docker")
            place.list("localhost/list:1", "localhost/docker:1")
            for repository in ("team/app", "docker"):
                digest = place.store.digest(f"localhost/{repository}:1")
                eventually(lambda name=repository, digest=digest: ours(upstream, name) == digest)  # type: ignore[misc]
            eventually(lambda: place.service.client.digest("list", "1"))
            eventually(lambda: ours(upstream, "list") == place.service.client.digest("list", "1"))


ACCEPT = {
    "Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
}


def ours(upstream: Client, repository: str) -> str | None:
    """Return the digest of what was copied; None while it is not there."""
    response = upstream.get(f"/v2/mirror/{repository}/manifests/1", headers=ACCEPT)
    return response.digest if response.status == 200 else None


def test_none_is_longer_than_forty_lines_and_each_is_documented() -> None:
    words = (HOOKS / "README.md").read_text(encoding="utf-8")
    programs = [path for path in HOOKS.iterdir() if path.suffix != ".md"]
    assert len(programs) == 6
    for path in programs:
        assert path.stat().st_mode & 0o111, path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path
        assert f"`{path.name}`" in words


def test_a_hook_of_python_finds_what_podbridge_has(place: Place) -> None:
    place.shelf.write("pre-publish", "10-python", "#!/usr/bin/env python3\nimport bridge, requests\n")
    with place.service:
        place.build("localhost/app:1")
        place.shows("app", "1", "localhost/app:1")
