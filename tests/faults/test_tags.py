"""Which tag shows what: pulls under way, conflicts, requests and holds over restarts, a damaged index."""

import json
import logging
import os
from pathlib import Path

import aiohttp
import pytest

from tests.double.gates import eventually
from tests.double.images import hexdigest
from tests.faults.world import World, sha256

MEGABYTE = 1 << 20


async def test_a_pull_of_the_old_image_ends_well_after_its_tag_has_moved_and_it_is_swept_after_the_grace(
    world: World,
) -> None:
    world.settings["resync"] = "1s"
    async with world.podman(), world.service() as service:
        old = world.double.build("localhost/app:1", "base", "old")
        await world.shows({"app:1": old.id})
        new = world.double.build("localhost/app:1", "base", "new")
        await world.shows({"app:1": new.id})
        await world.control_do("POST", "/gc")
        assert await world.pull("app", old.digest) == old.id
        assert await world.pull("app", "1") == new.id
        world.grace(service, 1)
        gone = [old.layer_names[1], old.id, hexdigest(old.manifest)]
        await eventually(lambda: not {path.name for path in files(world.tree)} & {*gone})
        assert (await world.get(f"/v2/app/manifests/{old.digest}"))[0] == 404
        assert (await world.get(f"/v2/app/blobs/sha256:{old.layer_names[1]}"))[0] == 404
        assert await world.pull("app", "1") == new.id
    assert (await world.command("verify")).output == "the tree is whole\n"


async def test_a_blob_that_is_being_sent_is_sent_to_its_end_though_it_is_swept_meanwhile(world: World) -> None:
    world.settings |= {"grace": "0s", "resync": "1s"}
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1", size=24 * MEGABYTE)
        await world.shows({"app:1": made.id})
        blob = world.tree / "blobs/sha256" / made.layer_names[0]
        address = f"http://{(await world.status())['registry']}/v2/app/blobs/sha256:{made.layer_names[0]}"
        async with aiohttp.ClientSession(read_bufsize=4096) as session, session.get(address) as response:
            first = await response.content.readexactly(4096)
            world.double.untag("localhost/app:1")
            await eventually(lambda: not blob.exists())
            assert sha256(first + await response.content.read()) == f"sha256:{made.layer_names[0]}"


async def test_an_export_keeps_its_blobs_from_a_sweep_until_it_is_shown_however_old_they_are(world: World) -> None:
    world.settings |= {"grace": "0s", "publish": [{"skip": True}]}
    async with world.podman(), world.service() as service:
        world.double.build("localhost/app:1", "one", "two")
        await service.reconciler.look()
        (image,) = service.reconciler.images
        async with service.reconciler.parts.exporter.export(image) as exported:
            assert (await service.sweep(dry_run=False)).blobs == 0
            assert service.reconciler.parts.tree.size(exported.descriptor) == exported.size
        assert (await service.sweep(dry_run=False)).blobs == 4


async def test_of_two_names_for_one_reference_the_first_in_order_wins_with_one_warning_that_names_both(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    winner, loser = "localhost/quay.io/app:1", "quay.io/app:1"
    async with world.podman(), world.service():
        first, second = world.double.build(loser, "one"), world.double.build(winner, "two")
        await world.shows({"quay.io/app:1": second.id})
        for _ in range(3):
            await world.control_do("POST", "/resync")
        assert world.shown() == {"quay.io/app:1": second.id}
        world.double.untag(winner)
        await world.shows({"quay.io/app:1": first.id})
        world.double.tag(second.id, winner)
        await world.shows({"quay.io/app:1": second.id})
        first_words = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(first_words) == 2, "once for each time that it began"
    assert all(winner in words and loser in words for words in first_words)


async def test_names_under_the_registrys_own_address_names_with_a_digest_and_no_names_are_left_out(
    world: World,
) -> None:
    async with world.podman(), world.service() as service:
        port = service.facts.registry.rpartition(":")[2]
        made = world.double.build(f"127.0.0.1:{port}/app:1")
        world.double.tag(made.id, f"localhost:{port}/app:1", f"localhost/app@{made.digest}", "localhost/kept:1")
        world.double.build("localhost/dangling:1", "dangling")
        world.double.untag("localhost/dangling:1")
        await world.shows({"kept:1": made.id})
        await world.settled()
        assert world.shown() == {"kept:1": made.id}


async def test_requests_and_holds_survive_a_restart(world: World) -> None:
    async with world.podman():
        async with world.service():
            made, kept_out = world.double.build("localhost/app:1", "a"), world.double.build("localhost/out:1", "b")
            await world.shows({"app:1": made.id, "out:1": kept_out.id})
            assert (await world.command("publish", "app:1", "--as", "hotfix/app:7")).code == 0
            assert (await world.command("withdraw", "out:1", "--hold")).code == 0
            await world.shows({"app:1": made.id, "hotfix/app:7": made.id})
        world.double.untag("localhost/app:1")
        async with world.service():
            await world.settled()
            assert world.shown() == {"hotfix/app:7": made.id}
            assert (await world.status())["counts"]["held"] == 1
            assert (await world.command("publish", "out:1")).code == 0
            await world.shows({"hotfix/app:7": made.id, "out:1": kept_out.id})
            world.double.remove(made.id)
            await world.shows({"out:1": kept_out.id})


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"manifests": 5}', b'{"manifests": [{}]}', b"\xff\x00"])
async def test_a_damaged_index_is_told_and_its_repository_is_published_anew_without_an_export(
    world: World, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.podman():
        async with world.service():
            made, other = world.double.build("localhost/app:1", "a"), world.double.build("localhost/other:1", "b")
            await world.shows({"app:1": made.id, "other:1": other.id})
        index = world.tree / "repositories/app/_oci/index.json"
        index.write_bytes(damage)
        assert (await world.command("verify")).code == 1
        async with world.service():
            await world.shows({"app:1": made.id, "other:1": other.id})
            assert await world.pull("app", "1") == made.id
            found = await world.condition("TreeWhole")
            assert (found["status"], found["reason"]) == (False, "IndexDamaged")
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [any(words in line for line in told) for words in ("index.json is damaged", "damaged index is kept")] == [
        True
    ] * 2
    assert len([line for line in told if "condition lost" not in line]) == 2
    assert world.double.log("reads").count(made.layer_names[0]) == 1
    (kept,) = (world.tree / "damaged").iterdir()
    assert kept.read_bytes() == damage
    assert str(kept) in (await world.command("verify", "--repair")).output
    assert (await world.command("verify")).output == "the tree is whole\n"


async def test_what_a_kill_left_of_a_repository_without_an_index_is_gone_after_the_next_start(world: World) -> None:
    world.settings["grace"] = "0s"
    async with world.podman():
        async with world.service():
            made = world.double.build("localhost/org/app:1")
            await world.shows({"org/app:1": made.id})
        (world.tree / "repositories/org/app/_oci/index.json").unlink()
        world.double.remove(made.id)
        async with world.service():
            await world.settled()
            await eventually(lambda: files(world.tree / "blobs") == [])
    assert [path.name for path in files(world.tree / "repositories")] == ["_catalog.json"]
    assert json.loads((world.tree / "repositories/_catalog.json").read_bytes()) == {"repositories": []}


def files(directory: Path) -> list[Path]:
    """Return every file below a directory; what is removed meanwhile is left out."""
    return [Path(parent) / name for parent, _, names in os.walk(directory) for name in names]
