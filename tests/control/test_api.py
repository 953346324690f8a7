"""What the control API shows of references, what it does with them, and how it refuses."""

import asyncio
import json
from typing import Any

import pytest

from bridge.config import Config, load
from bridge.publish.export import SIDE_BY_SIDE
from tests.control.asking import LINES, ask, asking, publish
from tests.double.gates import eventually
from tests.faults.world import World

BY_HAND = {"publish": [{"match": "localhost/hand/*", "skip": True}]}


async def view(world: World, reference: str) -> dict[str, Any]:
    """Return what is shown of one reference."""
    answer = await ask(world, "GET", f"publications/{reference}")
    return dict(answer.json) if answer.status == 200 else {"state": answer.json["reason"]}


async def is_in_state(world: World, reference: str, state: str) -> dict[str, Any]:
    """Wait until a reference is in a state, and return what is shown of it then."""
    now: dict[str, Any] = {}

    async def found() -> bool:
        now.clear()
        now.update(await view(world, reference))
        return bool(now["state"] == state)

    await eventually(found, what=f"{reference} is {state}")
    return now


async def test_a_reference_goes_through_its_states(world: World) -> None:
    gates = [world.double.gate(f"gate{number}") for number in range(SIDE_BY_SIDE)]
    others = {f"other:{number}" for number in range(SIDE_BY_SIDE)}
    async with world.podman(), world.service():
        assert (await view(world, "team/app:1"))["state"] == "NotPublished"
        for number, gate in enumerate(gates):
            world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(gate.path))
            world.double.build(f"localhost/other:{number}", f"first {number}", f"second {number}", size=2000)
            await gate.reached()
        made = world.double.build("localhost/team/app:1", "own", size=5000)
        await is_in_state(world, "team/app:1", "Pending")
        exporting = await is_in_state(world, "other:1", "Exporting")
        assert (exporting["layersDone"], exporting["layers"]) == (1, 2)
        assert exporting["written"] > 2000
        for gate in gates:
            gate.open()
        for reference in ("team/app:1", *others):
            await is_in_state(world, reference, "Published")
        shown = await view(world, "team/app:1")
        assert (shown["digest"], shown["podmanDigest"], shown["image"]) == (made.digest, made.digest, made.id)
        assert (shown["fidelity"], shown["name"]) == ("exact", "localhost/team/app:1")
        assert shown["published"] > 1e9
        assert (await ask(world, "DELETE", "publications/team/app:1?hold=true")).status == 204
        await is_in_state(world, "team/app:1", "Held")
        assert world.shown().keys() == others
        world.double.untag("localhost/other:1")
        withdrawn = await is_in_state(world, "other:1", "Withdrawn")
        assert withdrawn["withdrawn"] > withdrawn["published"]
        assert "until the grace period ends" in withdrawn["message"]


async def test_what_failed_says_why_and_when_it_is_tried_again_and_what_it_serves_meanwhile(world: World) -> None:
    async with world.podman(), world.service():
        old = world.double.build("localhost/app:1", "old")
        await world.shows({"app:1": old.id})
        world.double.faults.add("save", "fail", times=None, words="layer not known")
        new = world.double.build("localhost/app:1", "new")
        failed = await is_in_state(world, "app:1", "Failed")
        assert (failed["image"], failed["digest"]) == (new.id, old.digest)
        assert "layer not known" in failed["message"]
        assert failed["attempts"] >= 1
        assert failed["retryAt"] > 1e9
        assert failed["podmanDigest"] == new.digest


async def test_a_hold_during_the_export_keeps_it_out(world: World) -> None:
    """By the rules, and by hand: who asked is told. It is held from the answer on, not from the export's end."""
    world.settings |= BY_HAND
    gate = world.double.gate("save")
    world.double.faults.add("save", "hold", times=2, after=0, deaf=False, gate=str(gate.path))
    async with world.podman(), world.service() as steering:
        world.double.build("localhost/app:1", "by rule")
        world.double.build("localhost/hand/app:1", "by hand")
        asking = asyncio.create_task(publish(world, {"image": "hand/app:1", "as": "one:1"}))
        for reference in ("app:1", "one:1"):
            await is_in_state(world, reference, "Exporting")
            assert (await ask(world, "DELETE", f"publications/{reference}?hold=true")).status == 204
            assert (await view(world, reference))["state"] == "Held"
        gate.open()
        refused = await asking
        assert (refused.status, refused.json["message"]) == (409, "one:1 is not published: it was held back meanwhile")
        await eventually(lambda: world.staged() == [], what="both exports have ended")
        await steering.resync(prune=False)
        assert world.shown() == {}
        assert {(await view(world, reference))["state"] for reference in ("app:1", "one:1")} == {"Held"}


async def test_publications_are_filtered_and_paged(world: World) -> None:
    async with world.podman(), world.service():
        made = {name: world.double.build(f"localhost/{name}", name) for name in ("a:1", "a:2", "a/b:1", "c:1")}
        for reference in made:
            await is_in_state(world, reference, "Published")
        assert (await ask(world, "DELETE", "publications/c:1?hold=true")).status == 204

        async def listed(query: str) -> list[str]:
            return (await ask(world, "GET", f"publications?{query}")).references

        assert await listed("") == ["a:1", "a:2", "a/b:1", "c:1"]
        assert await listed("state=Held") == ["c:1"]
        assert await listed("state=Held&state=Published&repository=a") == ["a:1", "a:2"]
        assert await listed("repository=a*") == ["a:1", "a:2", "a/b:1"]
        assert await listed(f"image={made['a:2'].id[:12]}") == ["a:2"]
        assert await listed("image=localhost/a/b:1") == ["a/b:1"]
        assert await listed(f"digest={made['a:1'].digest}") == ["a:1"]
        pages, path = [], "/bridge/v1/publications?n=2&repository=*"
        while path:
            answer = await ask(world, "GET", path)
            pages.append(answer.references)
            link = answer.headers.get("Link", "")
            path = link.partition("<")[2].partition(">")[0]
            assert not path or link.endswith('; rel="next"')
        assert pages == [["a:1", "a:2"], ["a/b:1", "c:1"]]


async def test_publish_waits_or_answers_at_once(world: World) -> None:
    world.settings |= BY_HAND
    async with world.podman(), world.service():
        made = world.double.build("localhost/hand/app:1")
        waited = await publish(world, {"image": "hand/app:1", "as": "one:1"})
        assert (waited.status, waited.references) == (201, ["one:1"])
        assert waited.json["publications"][0]["digest"] == made.digest
        held = world.double.gate("save")
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        other = world.double.build("localhost/hand/other:1")
        at_once = await publish(world, {"image": "hand/other:1", "as": "two:1"}, "publications?wait=false")
        assert (at_once.status, at_once.json["publications"][0]["state"]) == (202, "Pending")
        await is_in_state(world, "two:1", "Exporting")
        held.open()
        await is_in_state(world, "two:1", "Published")
        assert world.shown() == {"one:1": made.id, "two:1": other.id}


async def test_a_dry_run_tells_and_does_nothing(world: World) -> None:
    world.settings |= BY_HAND
    async with world.podman(), world.service():
        made = world.double.build("localhost/hand/app:1")
        answer = await publish(world, {"image": "hand/app:1", "as": "one:1", "dryRun": True})
        assert (answer.status, answer.json["publications"][0]["state"]) == (200, "Pending")
        assert answer.json["publications"][0]["image"] == made.id
        assert world.shown() == {}


async def test_progress_is_podmans_push_stream_and_ends_with_the_publications(world: World) -> None:
    world.settings |= BY_HAND
    async with world.podman(), world.service():
        made = world.double.build("localhost/hand/app:1", "base", "own")
        *steps, shown, digest, last = (
            await publish(world, {"image": "hand/app:1", "as": "one:1"}, headers=LINES)
        ).lines
        assert all(record.keys() == {"stream"} and record["stream"].endswith("\n") for record in steps)
        assert shown == {"stream": "Published one:1\n"}
        assert digest == {"manifestdigest": made.digest}
        assert last == {"publications": [await view(world, "one:1")]}


async def test_progress_that_fails_ends_with_the_error(world: World) -> None:
    world.settings |= BY_HAND
    held = world.double.gate("save")
    async with world.podman(), world.service():
        world.double.build("localhost/hand/app:1", "base", "own")
        world.double.faults.add("save", "hold", after=1, deaf=False, gate=str(held.path))
        asked = {"image": "hand/app:1", "as": "one:1"}
        async with asking(world, "POST", "publications", json=asked, headers=LINES) as response:
            assert b"one:1" in await response.content.readline()
            await held.reached()
            world.double.remove(world.double.images().popitem()[0])
            held.open()
            *_, last = [json.loads(line) async for line in response.content]
        assert last.keys() == {"error"}
        assert "one:1 is not published" in last["error"]


async def test_what_is_wrong_before_progress_began_is_answered_as_any_error(world: World) -> None:
    async with world.podman(), world.service():
        unknown = await publish(world, {"image": "nothing"}, headers=LINES)
        assert (unknown.status, unknown.json["reason"]) == (404, "ImageUnknown")


async def test_resync_without_doing_it_tells_what_would_be_published(world: World) -> None:
    held = world.double.gate("save")
    async with world.podman(), world.service():
        world.double.faults.add("save", "fail", words="layer not known")
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))  # by itself, or by the resync
        made = world.double.build("localhost/app:1")
        await is_in_state(world, "app:1", "Failed")
        plan = (await ask(world, "POST", "resync?dryRun=true")).json
        assert [(one["reference"], one["image"], one["state"]) for one in plan["publish"]] == [
            ("app:1", made.id, "Pending")
        ]
        assert (plan["withdraw"], plan["heldBack"]) == ([], [])
        await is_in_state(world, "app:1", "Failed")
        assert (await ask(world, "POST", "resync")).json["counts"]["pending"] == 1
        held.open()
        await is_in_state(world, "app:1", "Published")


async def test_the_plan_of_a_mass_withdrawal_says_that_it_is_held_back(world: World) -> None:
    async with world.podman():
        async with world.service():
            made = [world.double.build(f"localhost/app:{number}", "same", note=str(number)) for number in range(10)]
            await eventually(lambda: len(world.shown()) == 10)
        for image in made:
            world.double.remove(image.id)
        async with world.service():
            plan = (await ask(world, "POST", "resync?dryRun=true")).json
            assert (len(plan["withdraw"]), len(plan["heldBack"])) == (0, 10)
            plan = (await ask(world, "POST", "resync?dryRun=true&prune=true")).json
            assert (len(plan["withdraw"]), len(plan["heldBack"])) == (10, 0)
            assert len(world.shown()) == 10


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nothing", 404, "NotFound"),
        ("GET", "/bridge/v2/status", 404, "NotFound"),
        ("PUT", "status", 405, "MethodNotAllowed"),
        ("HEAD", "status", 405, ""),
        ("GET", "status?verbose=true", 400, "Invalid"),
        ("GET", "publications?state=published", 400, "Invalid"),
        ("GET", "publications?n=0", 400, "Invalid"),
        ("GET", "publications?n=many", 400, "Invalid"),
        ("GET", "publications?last=UPPER", 400, "Invalid"),
        ("GET", "publications/UPPER:1", 400, "Invalid"),
        ("GET", "publications/app:1", 404, "NotPublished"),
        ("GET", "explain", 400, "Invalid"),
        ("GET", "explain?image=nothing", 404, "ImageUnknown"),
        ("DELETE", "publications/app:1", 404, "NotPublished"),
        ("DELETE", "publications/app:1?hold=yes", 400, "Invalid"),
        ("POST", "publications", 400, "Invalid"),
        ("POST", "gc?dryrun=true", 400, "Invalid"),
    ],
)
async def test_every_refusal_has_one_shape(world: World, method: str, path: str, status: int, reason: str) -> None:
    async with world.podman(), world.service():
        answer = await ask(world, method, path)
        assert answer.status == status
        if method == "HEAD":
            assert (answer.headers["Allow"], answer.body) == ("GET", b"")
            return
        assert answer.headers["Content-Type"] == "application/json"
        problem = json.loads(answer.body)
        assert problem.keys() == {"cause", "message", "response", "reason"}
        assert (problem["response"], problem["reason"]) == (status, reason)
        assert problem["message"]
        assert ("Allow" in answer.headers) == (status == 405)


async def test_a_body_that_is_wrong_is_refused_with_the_word(world: World) -> None:
    async with world.podman(), world.service():
        for body, words in (
            ({"image": "a", "dryrun": True}, "unknown field `dryrun`"),
            ({"image": 1}, "Expected `str`"),
            ({}, "`image`"),
        ):
            answer = await publish(world, body)
            assert (answer.status, words in answer.json["message"]) == (400, True), answer.body
            assert "openapi.json" in answer.json["message"]  # where the right words stand
        big = await ask(world, "POST", "publications", data=b"x" * 100_000)
        assert (big.status, big.json["response"]) == (413, 413)


async def test_status_names_every_endpoint(world: World) -> None:
    world.settings |= {"metrics": {"listen": "127.0.0.1:0"}}
    async with world.podman(), world.service():
        status = await world.status()
        assert status["sockets"].keys() == {"control", "registry", "podman", "metrics"}
        assert status["sockets"]["control"] == str(world.control)
        conditions = {one["type"]: one for one in status["conditions"]}
        assert conditions.keys() == {
            "PodmanReachable", "EventsStreaming", "DoorbellArmed", "TreeWritable", "TreeWhole", "Synced",
            "TasksRunning", "Ready",
        }  # fmt: skip
        assert conditions["Ready"].keys() == {"type", "status", "reason", "message", "lastTransitionTime"}


async def test_a_resync_goes_by_the_configuration_that_is_being_taken_up(world: World) -> None:
    """The new workers of a reload take their time; a `podman rmi` that follows must find the new `keep` in force."""
    held = asyncio.Event()

    async def hold(_: Config) -> None:
        await held.wait()

    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        world.settings["keep"] = "7d"
        service.settings._followers.insert(0, hold)
        changing = asyncio.create_task(service.settings.change(load(world.configuration()).config))
        resyncing = asyncio.create_task(ask(world, "POST", "resync"))
        for _ in range(3):
            assert (await ask(world, "GET", "status")).status == 200
        assert not resyncing.done()
        held.set()
        assert (await resyncing).status == 200
        world.double.untag("localhost/app:1")
        assert (await ask(world, "POST", "resync")).status == 200
        assert (await view(world, "app:1"))["keep"] == 7 * 86400
        await changing
