"""Of an image with several manifests the current one is served, and only such an image costs a request of its own."""

import json

import pytest

from tests.double.gates import eventually
from tests.double.images import Made, make, text_layer
from tests.faults.world import World, sha256


def build(world: World, text: str) -> Made:
    """Store a manifest with an annotation as the current one of always the same image."""
    made = make([text_layer("app")], annotations={"is": text})
    world.double.add(made, "localhost/app:1")
    return made


async def serves(world: World, made: Made) -> None:
    """Wait until the registry serves an image's manifest."""

    async def does() -> bool:
        status, content = await world.get("/v2/app/manifests/1")
        return status == 200 and sha256(content) == made.digest

    await eventually(does, what=f"{made.digest} is served")


@pytest.mark.parametrize("export", ["local", "rest"])
async def test_the_current_manifest_is_served_whichever_was_stored_first(world: World, export: str) -> None:
    world.settings["podman"] = {
        "socket": f"unix://{world.double.socket}", "command": world.double.command, "export": export,
    }  # fmt: skip
    async with world.podman():
        async with world.service():
            for text in ("A", "B", "A", "B"):
                await serves(world, build(world, text))
                await eventually(lambda: is_exact(world), what="it is published, and exact")
        made = build(world, "A")
        async with world.service():
            await serves(world, made)


async def test_a_pass_asks_only_for_images_with_several_digests(world: World) -> None:
    for number in range(20):
        world.double.build(f"localhost/one:{number}")
    async with world.podman(), world.service():
        await world.settled()
        assert await requests(world) == ["/images/json"]
        await serves(world, build(world, "A"))
        made = build(world, "B")
        await serves(world, made)
        assert await requests(world) == [f"/images/{made.id}/json", "/images/json"]


async def test_what_was_published_of_an_earlier_manifest_moves_at_the_next_start(world: World) -> None:
    """A tree of an earlier version shows the manifest that was stored first."""
    async with world.podman():
        first = build(world, "A")
        async with world.service():
            await serves(world, first)
        current = build(world, "B")
        (index,) = world.indexes()
        document = json.loads(index.read_bytes())
        for entry in document["manifests"]:
            entry["annotations"]["io.podbridge.origins"] = f"{first.digest} {current.digest}"
        index.write_text(json.dumps(document))
        async with world.service():
            await serves(world, current)


async def requests(world: World) -> list[str]:
    """Return what a pass asks podman for."""
    before = len(world.double.log("requests"))
    await world.control_do("POST", "/resync")
    lines = world.double.log("requests")[before:]
    return sorted({line.removeprefix("begin ") for line in lines if line.startswith("begin ")})


async def is_exact(world: World) -> bool:
    """Say whether the one reference is published with podman's own manifest."""
    (view,) = (await world.control_get("/publications"))["publications"]
    return (view["state"], view.get("fidelity")) == ("Published", "exact")
