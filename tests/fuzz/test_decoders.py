"""Whatever is read of others is a value, or one of our errors; and a value can be planned, shown and written again."""

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.control.schema import PublishRequest
from bridge.errors import BridgeError, InvalidError
from bridge.hooks.document import Document, ImageDocument, moment
from bridge.oci import Descriptor, Digest, Manifest, Repository
from bridge.plan import Image, Shown
from bridge.podman import events
from bridge.podman.client import Podman
from bridge.policy import Policy
from bridge.publish import layout, lists, manifests
from bridge.relay.events import read_filters
from bridge.service import views
from bridge.service.afterwards import _Config
from bridge.tree.index import Index
from bridge.untrusted_json import decode
from tests.double import images, server
from tests.double.store import Double, event
from tests.fuzz import broken, campaign

MADE = images.make([images.text_layer("one"), images.text_layer("two")], labels={"a": "b"})
MANIFEST = json.loads(MADE.manifest) | {
    "annotations": {"a": "b"}, "artifactType": "x/y", "subject": images.descriptor(b"x", images.OCI),
}  # fmt: skip
INDEX = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [
        images.descriptor(MADE.manifest, images.OCI) | {"platform": {"os": "linux", "architecture": "amd64"}},
        images.descriptor(b"x", images.OCI) | {"annotations": {"a": "b"}},
    ],
}
NOTES = {
    "org.opencontainers.image.ref.name": "1", "io.podbridge.image.id": MADE.id,
    "io.podbridge.image.digest": MADE.digest,
    "io.podbridge.name": "localhost/app:1", "io.podbridge.fidelity": "exact", "io.podbridge.size": "100",
    "io.podbridge.published": "2026-01-01T00:00:00.000Z", "io.podbridge.keep": "60.0",
    "io.podbridge.gone": "2026-01-01T00:00:00.000Z", "io.podbridge.origins": MADE.digest,
}  # fmt: skip
OURS = {
    "schemaVersion": 2,
    "manifests": [
        images.descriptor(MADE.manifest, images.OCI) | {"annotations": NOTES},
        images.descriptor(b"x", images.OCI)
        | {"annotations": {"io.podbridge.tag": "2", "io.podbridge.superseded": "2026-01-01T00:00:00.000Z"}},
    ],
    "annotations": {"io.podbridge.held": "3 4"},
}
LISTED = {
    "Id": MADE.id, "RepoTags": ["localhost/app:1"], "RepoDigests": [f"localhost/app@{MADE.digest}"],
    "Digest": MADE.digest,
    "Labels": {"io.podbridge.as": "b:1"}, "Size": 100, "Created": 1_700_000_000, "IsManifestList": False,
}  # fmt: skip
INSPECTED = {
    "RootFS": {"Layers": [MADE.digest]}, "ManifestType": images.OCI, "Digest": MADE.digest, "Architecture": "amd64",
    "Os": "linux",
}  # fmt: skip
INFO = {"store": {"graphDriverName": "overlay", "graphRoot": "/g", "runRoot": "/r"}, "Version": "4.3.1"}
IMAGE = Image(MADE.id, ("localhost/app:1",), Digest.parse(MADE.digest), frozenset({Digest.parse(MADE.digest)}))
LAYERS = [manifests.Layer(Digest.of(content), len(content)) for content in MADE.layers]


def test_manifests() -> None:
    def check(content: bytes) -> None:
        with contextlib.suppress(InvalidError):
            manifest = Manifest.parse(content)
            own = Descriptor(manifest.media_type, Digest.of(content), len(content))
            msgspec.json.encode([one.to_json() for one in (manifest.refer(own), *manifest.references)])
        with contextlib.suppress(BridgeError):
            chosen, _ = manifests.choose(IMAGE, LAYERS, None, (content,))
            assert [one.digest for one in Manifest.parse(chosen).layers] == [layer.digest for layer in LAYERS]

    campaign.run(broken.documents(MANIFEST), check)


def test_indexes() -> None:
    def check(content: bytes) -> None:
        with contextlib.suppress(BridgeError):
            list(lists.members(content, Image("0" * 64), (IMAGE,)))

    campaign.run(broken.documents(INDEX), check)


def test_layouts() -> None:
    def check(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            blobs = Path(directory) / "blobs/sha256"
            blobs.mkdir(parents=True)
            for blob in (MADE.manifest, MADE.config):
                (blobs / images.hexdigest(blob)).write_bytes(blob)
            (Path(directory) / "index.json").write_bytes(content)
            with contextlib.suppress(BridgeError):
                assert layout.read(Path(directory), IMAGE) == (MADE.manifest, MADE.config)

    campaign.run(broken.documents({"manifests": INDEX["manifests"][:1]}), check)


def test_configs() -> None:
    def check(content: bytes) -> None:
        with contextlib.suppress(InvalidError):
            config = decode(content, "config", _Config)
            labels = (config.config and config.config.labels) or {}
            _is_told(ImageDocument("0" * 64, labels=labels, architecture=config.architecture, created=config.created))

    campaign.run(broken.documents(json.loads(MADE.config) | {"created": "2026-01-01T00:00:00Z"}), check)


def test_our_own_indexes() -> None:
    def check(content: bytes) -> None:
        with contextlib.suppress(InvalidError):
            index = Index.parse(Repository("app"), content)
            msgspec.json.encode([views.published(one) for one in index.everything])
            again = Index.parse(index.repository, index.dump())
            assert again.publications.keys() == index.publications.keys()

    campaign.run(broken.documents(OURS), check)


def test_requests() -> None:
    def check(content: bytes) -> None:
        with contextlib.suppress(InvalidError):
            msgspec.json.encode(decode(content, "body", PublishRequest))
        read_filters(content.decode(errors="surrogateescape"))

    campaign.run(broken.documents({"image": "app", "as": "b:1", "force": True, "dryRun": False}), check)


@pytest.fixture
def lying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Double, Podman]]:
    """A podman that answers what a test wants, and the client that asks it."""
    with tempfile.TemporaryDirectory(prefix="fz", dir="/tmp") as directory, asyncio.Runner() as runner:
        double = Double.create(Path(directory) / "d")
        stack = contextlib.AsyncExitStack()
        runner.run(stack.enter_async_context(server.serving(double)))
        podman = runner.run(stack.enter_async_context(Podman(double.socket)))
        yield runner, double, podman
        runner.run(stack.aclose())


@pytest.mark.parametrize("question", ["version", "info", "inspect"])
def test_answers(lying: tuple[asyncio.Runner, Double, Podman], question: str) -> None:
    runner, double, podman = lying
    valid: dict[str, Any] = {"version": INFO, "info": INFO, "inspect": INSPECTED}

    def check(content: bytes) -> None:
        double.faults.heal(f"answer-{question}")
        double.faults.lie(question, content, status=200 if len(content) % 3 else 500, times=None)
        podman._store = None
        with contextlib.suppress(BridgeError):
            msgspec.json.encode(str(runner.run(ask(podman, question))))

    campaign.run(broken.documents(valid[question]), check, examples=30)


def test_listings(lying: tuple[asyncio.Runner, Double, Podman]) -> None:
    runner, double, podman = lying

    def check(content: bytes) -> None:
        double.faults.heal("answer-listing")
        double.faults.lie("listing", content, status=200 if len(content) % 5 else 500, times=None)
        with contextlib.suppress(BridgeError):
            found = runner.run(podman.images())
            plan = Policy().plan(found, Shown(), time.time())
            msgspec.json.encode(views.plan(plan, Shown(), 0.5))
            for image in found:
                labels, created = image.labels, moment(image.created)
                _is_told(ImageDocument(image.id, names=image.names, labels=labels, created=created))

    campaign.run(broken.documents([LISTED, LISTED | {"Id": "0" * 64, "RepoTags": None}]), check, examples=30)


def test_events(lying: tuple[asyncio.Runner, Double, Podman]) -> None:
    runner, double, podman = lying

    async def read() -> None:
        async with contextlib.aclosing(events.one_stream(podman)) as reasons:
            async for reason in reasons:
                assert reason.isprintable()
                if reason == "image last":
                    return

    def check(content: bytes) -> None:
        line = content.replace(b"\n", b" ").decode(errors="surrogateescape")
        double.faults.heal("events")
        double.faults.add("events", "lines", lines=[line, '{"Type":"image","Action":"last"}'])
        with contextlib.suppress(BridgeError):
            runner.run(read())

    campaign.run(broken.documents(event("tag", "localhost/app:1", actor=MADE.id)), check, examples=30)


async def ask(podman: Podman, question: str) -> object:
    """Ask a podman one of the questions."""
    match question:
        case "version":
            return await podman.version()
        case "info":
            return await podman.store()
        case _:
            return await podman.inspect(MADE.id)


def _is_told(image: ImageDocument) -> None:
    """Check that a hook can be told of an image."""
    document = Document(
        stage="pre-publish",
        reference="app:1",
        repository="app",
        tag="1",
        size=1,
        image=image,
        trigger="event",
        attempt=1,
    )
    msgspec.json.encode(document)
    assert all(isinstance(value, str) for value in document.variables().values())
