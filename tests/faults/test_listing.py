"""A listing that fails is never read as "no images", and no two overlap."""

import asyncio
import itertools
import logging

import pytest

from bridge.oci import Descriptor, Digest, Reference
from bridge.plan import Fidelity, Publication, Source
from bridge.tree.publisher import Tree
from tests.double.gates import DEADLINE, eventually
from tests.double.images import Made
from tests.faults.world import World

ID = "a" * 64
GARBAGE = (
    "<html>502 Bad Gateway</html>",
    "",
    "{}",
    "null",
    '""',
    "true",
    "[{}]",
    "[17]",
    '[{"Id": 7}]',
    f'[{{"Id": "{ID}", "Size": "large"}}]',
    f'[{{"Id": "{ID}", "Created": []}}]',
    f'[{{"Id": "{ID}", "RepoTags": [7]}}]',
    f'[{{"Id": "{ID}", "RepoTags": 7}}]',
    f'[{{"Id": "{ID}", "Labels": ["x"]}}]',
    f'[{{"Id": "{ID}", "Digest": "md5:0"}}]',
)


async def test_no_failed_cut_or_damaged_listing_withdraws_anything(world: World) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        faults = [("unknown", {}), ("fail", {"words": "database is locked"}), ("cut", {})]
        for kind, details in faults + [("answer", {"body": body}) for body in GARBAGE]:
            world.double.faults.add("listing", kind, times=None, **details)
            world.double.ring()
            await eventually(lambda: is_blind(world), what=f"the service notices {kind} {details}")
            assert world.shown() == {"app:1": made.id}
            assert await world.pull("app", "1") == made.id
            world.double.faults.heal("listing")
            world.double.ring()
            await eventually(lambda: sees(world), what="the service sees again")
        world.double.untag("localhost/app:1")
        await world.shows({})


async def is_blind(world: World) -> bool:
    return (await world.condition("PodmanReachable"))["status"] is False


async def sees(world: World) -> bool:
    return (await world.condition("PodmanReachable"))["status"] is True


@pytest.mark.parametrize("words", ["4e2a: image not known", 'locating item named "manifest" for image with ID "4e2a"'])
async def test_a_listing_that_a_concurrent_rmi_or_build_breaks_is_asked_again_without_a_word(
    world: World, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.podman(), world.service():
        world.double.faults.add("listing", "fail", times=3, words=words)
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_emptied_store_empties_the_tree(world: World) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        world.double.remove(made.id)
        await world.shows({})


async def test_pulls_go_on_and_the_service_stops_in_order_while_a_listing_hangs(world: World) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1")
        await world.shows({"app:1": made.id})
        gate = world.double.gate("never")
        world.double.faults.add("listing", "hold", times=None, gate=str(gate.path))
        world.double.ring()
        await gate.reached()
        assert await world.pull("app", "1") == made.id
        asyncio.get_running_loop().call_later(DEADLINE, gate.open)  # where the service did not stop before
    assert not gate.path.exists()
    gate.open()


async def test_listings_never_overlap(world: World) -> None:
    gate = world.double.gate("listing")
    async with world.podman(), world.service():
        world.double.faults.add("listing", "hold", gate=str(gate.path))
        world.double.ring()
        await gate.reached()
        asked = [asyncio.create_task(world.control_do("POST", "/resync")) for _ in range(5)]
        for number in range(5):
            world.double.build(f"localhost/app:{number}")
        for _ in range(5):
            await world.status()  # by now the service has what was asked before
        gate.open()
        await asyncio.gather(*asked)
        await eventually(lambda: len(world.shown()) == 5)
    lines = [line for line in world.double.log("requests") if line.endswith("/images/json")]
    open_at_once = itertools.accumulate(1 if line.startswith("begin") else -1 for line in lines)
    assert max(open_at_once) == 1


async def test_a_pass_over_300_images_with_nothing_to_do_costs_one_listing_and_no_podman_process(world: World) -> None:
    made = [world.double.build(f"localhost/app:{number}", "base", f"own {number}") for number in range(300)]
    seed(world, {f"app:{number}": image for number, image in enumerate(made)})
    async with world.podman():
        answer = await world.command("sync")
    assert (answer.code, answer.output) == (0, f"300 published in {world.tree}\n")
    assert world.double.log("requests") == ["begin /images/json", "end /images/json"]
    assert world.double.log("saves") == []
    assert world.shown() == {f"app:{number}": image.id for number, image in enumerate(made)}


def seed(world: World, images: dict[str, Made]) -> None:
    """Have images in the tree as if they had been exported."""
    with Tree(world.tree) as tree:
        for text, made in images.items():
            with tree.stage() as directory:
                for content in (*made.layers, made.config, made.manifest):
                    digest = Digest.of(content)
                    (directory / digest.hex).write_bytes(content)  # its own file: the tree links what it adopts
                    tree.adopt(directory / digest.hex, digest)
            digest = Digest.parse(made.digest)
            descriptor = Descriptor(made.media_type, digest, len(made.manifest))
            reference = Reference.parse(text)
            source = Source(made.id, digest)
            tree.publish(Publication(reference, descriptor, source, Fidelity.EXACT, f"localhost/{text}", 1, 0))
