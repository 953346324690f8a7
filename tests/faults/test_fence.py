"""One image, one answer, one call, one listener: what goes wrong in it is its own failure, and the rest goes on."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from bridge.changes import Change
from bridge.oci import Digest
from bridge.plan import Image
from bridge.publish.job import Job, Written
from tests.double.gates import eventually
from tests.double.images import Made, encode, hexdigest, layer, make, manifest_of, text_layer
from tests.faults.world import World
from tests.hooks.shelf import Shelf

DEEP = b"[" * 2000 + b"]" * 2000

MANIFESTS = {
    "deep": (b',"x":' + DEEP, "nested too deep"),
    "no UTF-8": (b',"x":"\xff\xfe"', "not UTF-8"),
    "no UTF-8 in a key": (b',"\xff":1', "not UTF-8"),
    "5,000 digits": (b',"x":' + b"9" * 5000, "not as expected"),
    "a number beyond all": (b',"x":1e999', "not as expected"),
    "half a surrogate": (b',"x":"\\ud800"', "not as expected"),
    "annotations that are no texts": (b',"annotations":{"a":5}', "annotations"),
    "annotations that are no map": (b',"annotations":["a"]', "annotations"),
    "an artifact type that is no text": (b',"artifactType":{"a":5}', "artifactType"),
    "a size beyond all": (
        b',"subject":{"mediaType":"x","digest":"sha256:%s","size":%s}' % (b"0" * 64, b"9" * 40),
        "size",
    ),
    "too long": (b',"x":"' + b"x" * 5_000_000 + b'"', "too long"),
}

CONFIGS = {
    "deep": b',"x":' + DEEP,
    "no UTF-8": b',"architecture":"\xff\xfe"',
    "a number for a text": b',"architecture":5,"os":[1],"created":{}',
    "NUL and a terminal's command": b',"architecture":"a\\u0000b\\u001b[2J"',
    "5,000 digits": b',"x":' + b"9" * 5000,
}


def with_manifest(made: Made, more: bytes) -> Made:
    """Return the image with more in its manifest."""
    return Made(made.layers, made.config, made.manifest[:-1] + more + b"}")


def with_config(made: Made, more: bytes) -> Made:
    """Return the image with more in its config; a duplicate key wins over the one before."""
    config = made.config[:-1] + more + b"}"
    return Made(made.layers, config, manifest_of(config, made.layers))


async def view(world: World, reference: str) -> dict[str, Any]:
    """Return what `podbridge list --json` says of a reference."""
    (found,) = [
        one for one in (await world.control_get("/publications"))["publications"] if one["reference"] == reference
    ]
    return dict(found)


@pytest.mark.parametrize("name", MANIFESTS)
async def test_a_manifest_that_cannot_be_read_fails_its_image_alone_and_for_good(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    more, words = MANIFESTS[name]
    async with world.podman(), world.service():
        good = world.double.build("localhost/good:1")
        world.double.add(with_manifest(make([text_layer("bad")]), more), "localhost/bad:1")
        message = await world.failed("bad:1")
        later = world.double.build("localhost/later:1")
        await world.shows({"good:1": good.id, "later:1": later.id})
        assert await world.pull("later", "1") == later.id
        assert words in message
        assert message.endswith("not retried until the image changes")
    assert "Traceback" not in caplog.text


async def test_an_image_that_cannot_be_served_is_there_at_the_start_and_at_sync(world: World) -> None:
    good = world.double.build("localhost/good:1")
    world.double.add(with_manifest(make([text_layer("bad")]), MANIFESTS["deep"][0]), "localhost/bad:1")
    async with world.podman():
        answer = await world.command("sync")
        assert answer.code == 1
        assert "1 published" in answer.output
        assert "1 failed" in answer.output
        assert "nested too deep" in answer.errors
        assert "Traceback" not in answer.errors
        async with world.service():
            assert world.shown() == {"good:1": good.id}
            assert "nested too deep" in await world.failed("bad:1")


async def test_a_permanent_failure_is_told_as_such_everywhere_and_not_retried(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.settings["resync"] = "1s"
    changes: list[Change] = []
    async with world.podman(), world.service() as service:
        with service.reconciler.parts.changes.heard_by(changes.append):
            bad = with_manifest(make([text_layer("bad")]), MANIFESTS["deep"][0])
            world.double.add(bad, "localhost/bad:1")
            await world.failed("bad:1")
            before = world.listings()
            await eventually(lambda: world.listings() >= before + 4, what="some timed passes")
        told = await view(world, "bad:1")
        assert (told["state"], told.get("permanent"), told.get("retryAt")) == ("Failed", True, None)
        assert told["attempts"] == 1
        status = await world.command("status")
        assert "failed 1 time for good" in status.output
        for words in (("status",), ("list",), ("explain", "localhost/bad:1")):
            assert "not retried until the image changes" in (await world.command(*words)).output
        assert [(change.permanent, change.attempts) for change in changes] == [(True, 1)]
        assert (await world.condition("Synced"))[
            "message"
        ] == "1 cannot be published, 1 of them until the image changes"
    assert world.double.log("saves") == [f"oci-dir {bad.id}"]
    told_once = [record for record in caplog.records if "not retried until the image changes" in record.getMessage()]
    assert [record.levelname for record in told_once] == ["WARNING"]


@pytest.mark.parametrize("way", ["the image changes", "by hand", "a resync by hand"])
async def test_a_permanent_failure_is_asked_for_again_when(world: World, way: str) -> None:
    async with world.podman(), world.service():
        bad = with_manifest(make([text_layer("bad")]), MANIFESTS["deep"][0])
        world.double.add(bad, "localhost/bad:1")
        await world.failed("bad:1")
        assert len(world.double.log("saves")) == 1
        if way == "the image changes":
            made = world.double.build("localhost/bad:1", "mended")
            await world.shows({"bad:1": made.id})
            assert await world.has_no_failure()
        elif way == "by hand":
            answer = await world.command("publish", "localhost/bad:1")
            assert answer.code == 1
            assert "nested too deep" in answer.errors
            assert len(world.double.log("saves")) == 2
            assert (await view(world, "bad:1"))["permanent"] is True
        else:
            await world.control_do("POST", "/resync")
            await eventually(lambda: len(world.double.log("saves")) == 2)
            await eventually(lambda: world.attempts("bad:1", 1))


async def test_a_permanent_failure_leaves_what_the_tag_showed_before(world: World) -> None:
    async with world.podman(), world.service():
        good = world.double.build("localhost/app:1")
        await world.shows({"app:1": good.id})
        world.double.add(with_manifest(make([text_layer("bad")]), MANIFESTS["no UTF-8"][0]), "localhost/app:1")
        assert "what it showed before stays" in await world.failed("app:1")
        assert await world.pull("app", "1") == good.id


async def test_a_damaged_manifest_fails_until_the_image_is_there_again(world: World) -> None:
    async with world.podman(), world.service():
        good = world.double.build("localhost/good:1")
        damaged = make([text_layer("damaged")])
        for content in (*damaged.layers, damaged.config):
            world.double.blob(hexdigest(content)).write_bytes(content)
        world.double.blob(damaged.digest.removeprefix("sha256:")).write_bytes(b"half")
        world.double.add(damaged, "localhost/damaged:1")
        await world.failed("damaged:1")
        world.double.remove(damaged.id)
        await world.shows({"good:1": good.id})
        world.double.blob(damaged.digest.removeprefix("sha256:")).write_bytes(damaged.manifest)
        world.double.add(damaged, "localhost/damaged:1")
        await world.shows({"good:1": good.id, "damaged:1": damaged.id})


@pytest.fixture
def shelf(world: World) -> Shelf:
    """Where the hooks of the world's podbridge lie."""
    shelf = Shelf(world.directory / "hooks.d")
    world.settings["hooks"] = {"directories": [str(shelf.directory)]}
    return shelf


@pytest.mark.parametrize("name", CONFIGS)
async def test_a_strange_config_is_no_reason_not_to_call_a_hook(world: World, shelf: Shelf, name: str) -> None:
    shelf.record("post-publish")
    async with world.podman(), world.service():
        made = with_config(make([text_layer("app")]), CONFIGS[name])
        world.double.add(made, "localhost/app:1")
        await world.shows({"app:1": made.id})
        await eventually(lambda: len(shelf.documents()) == 1)
        later = world.double.build("localhost/later:1")
        await eventually(lambda: len(shelf.documents()) == 2)
        await world.shows({"app:1": made.id, "later:1": later.id})


MOMENTS = [-62167219200, -62135596800, 253402383599, -1, 2**62, -(2**62), 10**18]
"""Year 0, year 1, 9999-12-31T23:59:59-23:00, just before the epoch, and what no calendar has."""


@pytest.mark.parametrize("created", MOMENTS)
async def test_a_gate_is_asked_about_an_image_of_any_age(world: World, shelf: Shelf, created: int) -> None:
    shelf.record("pre-publish")
    shelf.record("publish-failed")
    async with world.podman(), world.service():
        made = make([text_layer("app")])
        changed(world, made, Created=created)
        await world.shows({"app:1": made.id})
        assert [one["image"]["id"] for one in shelf.documents("pre-publish")] == [made.id]


def changed(world: World, made: Made, **fields: object) -> None:
    """Add an image as `localhost/app:1` of which the listing says something else."""
    rings, emits, world.double.rings, world.double.emits = world.double.rings, world.double.emits, False, False
    world.double.add(made)
    with world.double._change() as state:
        state[made.id] |= fields
    world.double.rings, world.double.emits = rings, emits
    world.double.tag(made.id, "localhost/app:1")


@pytest.mark.parametrize(
    "labels",
    [
        {"a": "x" * 3_000_000},
        {f"label{number}": "y" * 1000 for number in range(3000)},
        {"nul": "a\0b", "\0": "c"},
        {"lines": "one\ntwo\r\nPODBRIDGE_TAG=forged", "command": "\x1b[2J\x9b"},
        {"=": "=", "": "", "no key": "\u2028"},
    ],
    ids=["one large", "many", "NUL", "lines", "odd keys"],
)
async def test_a_hook_is_called_whatever_the_labels_hold(world: World, shelf: Shelf, labels: Mapping[str, str]) -> None:
    shelf.record("pre-publish")
    shelf.record("post-publish")
    async with world.podman(), world.service():
        made = make([text_layer("app")], labels=labels)
        world.double.add(made, "localhost/app:1")
        await world.shows({"app:1": made.id})
        await eventually(lambda: len(shelf.documents("post-publish")) == 1)
        assert shelf.documents("pre-publish")[0]["image"]["labels"] == labels


class Strange:
    """A transport that fails in a way that no code foresaw."""

    def __init__(self, transport: Any, error: Exception, image_id: str) -> None:
        self._transport, self._error, self._id = transport, error, image_id

    async def write(self, job: Job) -> Written:
        if job.image.id == self._id:
            raise self._error
        written: Written = await self._transport.write(job)
        return written

    async def index(self, image: Image) -> bytes:
        content: bytes = await self._transport.index(image)
        return content

    async def current(self, image: Image) -> Digest | None:
        digest: Digest | None = await self._transport.current(image)
        return digest


@pytest.mark.parametrize(
    "error", [ValueError("strange"), RecursionError("deep"), MemoryError(), KeyError("x")], ids=repr
)
async def test_an_unforeseen_exception_fails_its_image_alone_and_leaves_one_traceback(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bad = make([text_layer("bad")])
    async with world.podman(), world.service() as service:
        exporter = service.reconciler.parts.exporter
        right = exporter.transport
        exporter.transport = Strange(right, error, bad.id)
        world.double.add(bad, "localhost/bad:1")
        assert type(error).__name__ in await world.failed("bad:1")
        good = world.double.build("localhost/good:1")
        await world.shows({"good:1": good.id})
        await eventually(lambda: world.attempts("bad:1", 2), what="it is tried again")
        assert len([record for record in caplog.records if record.exc_info]) == 1
        exporter.transport = right
        await world.control_do("POST", "/resync")
        await world.shows({"good:1": good.id, "bad:1": bad.id})
        assert (await world.condition("TasksRunning"))["status"] is True


async def test_a_listener_that_raises_ends_no_publication(world: World) -> None:
    def raises(_: Change) -> None:
        raise ZeroDivisionError

    async with world.podman(), world.service() as service:
        with service.reconciler.parts.changes.heard_by(raises):
            first = world.double.build("localhost/first:1")
            second = world.double.build("localhost/second:1")
            await world.shows({"first:1": first.id, "second:1": second.id})
            assert await world.has_no_failure()


LIES = {
    "a list": b"[1]",
    "a number": b"17",
    "nothing": b"",
    "null": b"null",
    "no JSON": b"<html>",
    "deep": b'{"x":' + DEEP + b"}",
    "deep itself": DEEP,
    "no UTF-8": b'{"Version":"\xff","store":"\xff"}',
    "wrong types": json.dumps(
        {"Version": [1], "store": {"graphDriverName": 5, "graphRoot": [1], "runRoot": None}, "RootFS": 5, "Digest": 5}
    ).encode(),
    "NUL in a path": b'{"store":{"graphDriverName":"x","graphRoot":"/a\\u0000b","runRoot":"/"},"Version":"\\u0000"}',
    "5,000 digits": b'{"Version":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("status", [200, 500])
async def test_a_podman_that_lies_ends_nothing(world: World, lie: str, status: int) -> None:
    good = world.double.build("localhost/good:1")
    async with world.podman():
        async with world.service():
            await world.shows({"good:1": good.id})
        for question in ("version", "info", "inspect", "exists"):
            world.double.faults.lie(question, LIES[lie], status=status)
        async with world.service():
            world.double.faults.lie("listing", LIES[lie], status=status)
            events = LIES[lie].decode(errors="surrogateescape")
            world.double.faults.add("events", "lines", lines=[events, '{"Type":"image","Action":[]}', '{"Type":{}}'])
            later = world.double.build("localhost/later:1")
            await world.shows({"good:1": good.id, "later:1": later.id})
            assert await world.pull("good", "1") == good.id
            assert (await world.condition("TasksRunning"))["status"] is True


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "null"])
async def test_a_listing_that_lies_is_told_by_sync_and_withdraws_nothing(world: World, lie: str) -> None:
    good = world.double.build("localhost/good:1")
    async with world.podman():
        assert (await world.command("sync")).code == 0
        world.double.faults.lie("listing", LIES[lie], times=None)
        answer = await world.command("sync")
        assert answer.code == 1
        assert answer.errors.splitlines()[-1].startswith("podbridge: podman's ")
        assert "Traceback" not in answer.errors
        assert world.shown() == {"good:1": good.id}


INDEXES: dict[str, bytes] = {
    "deep": b'{"manifests":' + DEEP + b"}",
    "no UTF-8": b'{"manifests":[],"x":"\xff"}',
    "no list": b'{"manifests":5}',
    "a list of lists": b'{"manifests":[[[]]]}',
    "another document": b"[1]",
}
ANNOTATIONS = {
    "size": ["9" * 4000, "-1", "1e3", "nan", ""],
    "published": ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "now", "1"],
    "keep": ["nan", "-5", "x"],
    "superseded": ["9999-12-31T23:59:59-23:00"],
    "gone": ["0000-01-01T00:00:00Z"],
    "image.digest": ["sha256:x"],
    "fidelity": ["good"],
}


@pytest.mark.parametrize(
    "name", [*INDEXES, *(f"{key} {value[:30]}" for key, values in ANNOTATIONS.items() for value in values)]
)
async def test_a_damaged_index_is_published_anew_and_stops_nothing(world: World, name: str) -> None:
    good, app = world.double.build("localhost/good:1"), world.double.build("localhost/app:1")
    async with world.podman():
        assert (await world.command("sync")).code == 0
        index = world.tree / "repositories/app/_oci/index.json"
        index.write_bytes(INDEXES.get(name) or annotated(index.read_bytes(), name))
        async with world.service():
            await world.shows({"good:1": good.id, "app:1": app.id})
            assert {one["reference"] for one in (await world.control_get("/publications"))["publications"]} >= {"app:1"}
            await eventually(lambda: world.pull("app", "1"))


def annotated(content: bytes, name: str) -> bytes:
    """Return an index whose first entry has another annotation."""
    key, _, start = name.partition(" ")
    index = json.loads(content)
    (value,) = [value for value in ANNOTATIONS[key] if value[:30] == start]
    index["manifests"][0]["annotations"][f"io.podbridge.{key}"] = value
    return encode(index)


async def test_a_new_configuration_that_fails_unexpectedly_is_refused_whole(world: World) -> None:
    async def raises(_: object) -> None:
        raise ZeroDivisionError

    async with world.podman(), world.service() as service:
        before = service.settings.config
        with service.settings.followed_by(raises), pytest.raises(Exception, match="ZeroDivisionError"):
            await service.settings.change(before)
        assert service.settings.config is before
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})


async def test_a_request_that_fails_unexpectedly_is_answered_500_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        facts, service.facts.sockets = service.facts.sockets, {"x": object()}  # type: ignore[dict-item]
        for _ in range(3):
            with pytest.raises(AssertionError, match="the service failed on this"):
                await world.status()
        service.facts.sockets = facts
        assert (await world.status())["counts"]["published"] == 1
        assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_a_layer_named_as_a_manifest_and_a_list_of_strangers_fail_alone(world: World) -> None:
    """What is valid JSON and no image fails with words, too."""
    async with world.podman(), world.service():
        layers = [layer({"file": b"x"})]
        made = make(layers)
        for number, value in enumerate(({}, {"layers": 5}, {"config": 5}, {"mediaType": ["x"]}, {"manifests": [5]})):
            manifest = encode(value)
            world.double.add(Made(made.layers, encode({"n": number}), manifest), f"localhost/bad{number}:1")
        good = world.double.build("localhost/good:1")
        await asyncio.gather(*(world.failed(f"bad{number}:1") for number in range(5)))
        await world.shows({"good:1": good.id})


def test_the_log_is_not_asked_for_debug_here() -> None:
    """The tests above count what is logged: a level below INFO would tell repetitions, too."""
    assert logging.getLogger("bridge").getEffectiveLevel() >= logging.INFO
