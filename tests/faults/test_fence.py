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


async def test_a_manifest_that_cannot_be_read_fails_its_image_alone_and_for_good(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.podman(), world.service():
        expected = {"good:1": world.double.build("localhost/good:1").id}
        for number, (name, (more, words)) in enumerate(MANIFESTS.items()):
            world.double.add(with_manifest(make([text_layer(name)]), more), f"localhost/bad:{number}")
            message = await world.failed(f"bad:{number}")
            assert words in message, name
            assert message.endswith("not retried until the image changes"), name
            expected[f"later:{number}"] = world.double.build(f"localhost/later:{number}").id
            await world.shows(expected)
            assert await world.pull("later", str(number)) == expected[f"later:{number}"]
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
        await eventually(world.has_no_failure, what="a look without the image")
        world.double.blob(damaged.digest.removeprefix("sha256:")).write_bytes(damaged.manifest)
        world.double.add(damaged, "localhost/damaged:1")
        await world.shows({"good:1": good.id, "damaged:1": damaged.id})


@pytest.fixture
def shelf(world: World) -> Shelf:
    """Where the hooks of the world's podbridge lie."""
    shelf = Shelf(world.directory / "hooks.d")
    world.settings["hooks"] = {"directories": [str(shelf.directory)]}
    return shelf


async def test_a_strange_config_is_no_reason_not_to_call_a_hook(world: World, shelf: Shelf) -> None:
    shelf.record("post-publish")
    async with world.podman(), world.service():
        made = [with_config(make([text_layer(name)]), more) for name, more in CONFIGS.items()]
        for number, one in enumerate(made):
            world.double.add(one, f"localhost/app:{number}")
        later = world.double.build("localhost/later:1")
        await world.shows({f"app:{number}": one.id for number, one in enumerate(made)} | {"later:1": later.id})
        await eventually(lambda: len(shelf.documents()) == len(CONFIGS) + 1)
        assert {one["image"]["id"] for one in shelf.documents()} == {one.id for one in (*made, later)}


MOMENTS = [-62167219200, -62135596800, 253402383599, -1, 2**62, -(2**62), 10**18]
"""Year 0, year 1, 9999-12-31T23:59:59-23:00, just before the epoch, and what no calendar has."""


async def test_a_gate_is_asked_about_an_image_of_any_age(world: World, shelf: Shelf) -> None:
    shelf.record("pre-publish")
    shelf.record("publish-failed")
    made = [make([text_layer(f"made at {created}")]) for created in MOMENTS]
    for number, (created, one) in enumerate(zip(MOMENTS, made, strict=True)):
        world.double.add(one, f"localhost/app:{number}")
        with world.double.change() as state:
            state[one.id]["Created"] = created
    async with world.podman(), world.service():
        await world.shows({f"app:{number}": one.id for number, one in enumerate(made)})
        assert {one["image"]["id"] for one in shelf.documents("pre-publish")} == {one.id for one in made}
        assert shelf.documents("publish-failed") == []


LABELS: tuple[dict[str, str], ...] = (
    {"a": "x" * 3_000_000},
    {f"label{number}": "y" * 1000 for number in range(3000)},
    {"nul": "a\0b", "\0": "c"},
    {"lines": "one\ntwo\r\nPODBRIDGE_TAG=forged", "command": "\x1b[2J\x9b"},
    {"=": "=", "": "", "no key": "\u2028"},
)


async def test_a_hook_is_called_whatever_the_labels_hold(world: World, shelf: Shelf) -> None:
    shelf.record("pre-publish")
    shelf.record("post-publish")
    async with world.podman(), world.service():
        made = [make([text_layer("app")], labels=labels) for labels in LABELS]
        for number, one in enumerate(made):
            world.double.add(one, f"localhost/app:{number}")
        await world.shows({f"app:{number}": one.id for number, one in enumerate(made)})
        await eventually(lambda: len(shelf.documents("post-publish")) == len(LABELS))
        told = {one["image"]["id"]: one["image"]["labels"] for one in shelf.documents("pre-publish")}
        assert [told[one.id] for one in made] == list(LABELS)


class Strange:
    """A transport that fails in a way that no code foresaw, for images by their IDs."""

    def __init__(self, transport: Any, errors: Mapping[str, Exception]) -> None:
        self._transport, self._errors = transport, errors

    async def write(self, job: Job) -> Written:
        if job.image.id in self._errors:
            raise self._errors[job.image.id]
        written: Written = await self._transport.write(job)
        return written

    async def index(self, image: Image) -> bytes:
        content: bytes = await self._transport.index(image)
        return content

    async def current(self, image: Image) -> Digest | None:
        digest: Digest | None = await self._transport.current(image)
        return digest


STRANGE = (ValueError("strange"), RecursionError("deep"), MemoryError(), KeyError("x"))


async def test_an_unforeseen_exception_fails_its_image_alone_and_leaves_one_traceback(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {f"bad:{number}": make([text_layer(repr(error))]) for number, error in enumerate(STRANGE)}
    async with world.podman(), world.service() as service:
        exporter = service.reconciler.parts.exporter
        right = exporter.transport
        exporter.transport = Strange(right, dict(zip((made.id for made in bad.values()), STRANGE, strict=True)))
        for (reference, made), error in zip(bad.items(), STRANGE, strict=True):
            world.double.add(made, f"localhost/{reference}")
            assert type(error).__name__ in await world.failed(reference)
        good = world.double.build("localhost/good:1")
        await world.shows({"good:1": good.id})
        for reference in bad:
            await eventually(lambda name=reference: world.attempts(name, 2), what="it is tried again")  # type: ignore[misc]
        assert len([record for record in caplog.records if record.exc_info]) == len(STRANGE)
        exporter.transport = right
        await world.control_do("POST", "/resync")
        await world.shows({"good:1": good.id} | {reference: made.id for reference, made in bad.items()})
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


@pytest.mark.parametrize("status", [200, 500])
async def test_a_podman_that_lies_at_the_start_ends_nothing(world: World, status: int) -> None:
    expected = {"good:1": world.double.build("localhost/good:1").id}
    async with world.podman():
        assert (await world.command("sync")).code == 0
        for number, (name, lie) in enumerate(LIES.items()):
            for question in ("version", "info", "inspect", "exists"):
                world.double.faults.lie(question, lie, status=status)
            async with world.service():
                expected[f"later:{number}"] = world.double.build(f"localhost/later:{number}", name).id
                await world.shows(expected)
                assert (await world.condition("TasksRunning"))["status"] is True, name
            for question in ("version", "info", "inspect", "exists"):
                world.double.faults.heal(f"answer-{question}")


@pytest.mark.parametrize("status", [200, 500])
async def test_a_podman_that_lies_while_the_service_runs_ends_nothing(world: World, status: int) -> None:
    expected = {"good:1": world.double.build("localhost/good:1").id}
    async with world.podman(), world.service():
        for number, (name, lie) in enumerate(LIES.items()):
            world.double.faults.lie("listing", lie, status=status)
            events = lie.decode(errors="surrogateescape")
            world.double.faults.add("events", "lines", lines=[events, '{"Type":"image","Action":[]}', '{"Type":{}}'])
            expected[f"later:{number}"] = world.double.build(f"localhost/later:{number}", name).id
            await world.shows(expected)
            assert await world.pull("good", "1") == expected["good:1"]
            assert (await world.condition("TasksRunning"))["status"] is True, name


async def test_a_listing_that_lies_is_told_by_sync_and_withdraws_nothing(world: World) -> None:
    good = world.double.build("localhost/good:1")
    async with world.podman():
        assert (await world.command("sync")).code == 0
        for name in LIES.keys() - {"null"}:
            world.double.faults.lie("listing", LIES[name], times=None)
            answer = await world.command("sync")
            assert answer.code == 1, name
            assert answer.errors.splitlines()[-1].startswith("podbridge: podman's "), name
            assert "Traceback" not in answer.errors, name
            assert world.shown() == {"good:1": good.id}
            world.double.faults.heal("answer-listing")


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


async def test_a_damaged_index_is_published_again_and_stops_nothing(world: World) -> None:
    names = [*INDEXES, *(f"{key} {value[:30]}" for key, values in ANNOTATIONS.items() for value in values)]
    expected = {"good:1": world.double.build("localhost/good:1").id}
    expected |= {f"app{n}:1": world.double.build(f"localhost/app{n}:1", name).id for n, name in enumerate(names)}
    async with world.podman():
        assert (await world.command("sync")).code == 0
        for number, name in enumerate(names):
            index = world.tree / f"repositories/app{number}/_oci/index.json"
            index.write_bytes(INDEXES.get(name) or annotated(index.read_bytes(), name))
        async with world.service():
            await world.shows(expected)
            assert {one["reference"] for one in (await world.control_get("/publications"))["publications"]} == {
                *expected
            }
            for number, name in enumerate(names):
                await eventually(lambda n=number: world.pull(f"app{n}", "1"), what=name)  # type: ignore[misc]


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
        service.facts.sockets["x"] = object()  # type: ignore[assignment]
        for _ in range(3):
            with pytest.raises(AssertionError, match="the service failed on this"):
                await world.status()
        del service.facts.sockets["x"]
        await world.settled()
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
