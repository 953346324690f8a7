"""SIGKILL at any moment: no reader ever sees half of anything, and the next start converges."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from bridge import config
from bridge.service.serve import registry_only
from bridge.service.settings import Settings
from bridge.systemd import Sockets
from tests.double.gates import DEADLINE, eventually
from tests.double.images import hexdigest
from tests.faults.world import World, get, pull

DYING = Path(__file__).with_name("dying.py")
LEAST = 20
"""Changes of the tree in a pass at the least."""
STEP = 2
"""How many changes there are from one kill to the next: about 60 kills."""


class Reader:
    """Reads the tree and a registry over it, again and again, and notes everything that is not whole."""

    def __init__(self, world: World, address: str) -> None:
        self._world = world
        self._registry = f"http://{address}"
        self._whole: set[Path] = set()
        self.rounds = 0

    async def run(self) -> None:
        """Read until cancelled; raise AssertionError for anything that is not whole."""
        while True:
            self.read_tree()
            await self.read_registry()
            self.rounds += 1
            await asyncio.sleep(0.01)

    def read_tree(self) -> None:
        """Follow every reference of every index on the disk."""
        for index in self._world.indexes():
            try:
                content = index.read_bytes()
            except FileNotFoundError:
                continue  # withdrawn since
            for entry in json.loads(content)["manifests"]:
                self._check(index.parent, entry)

    def _check(self, layout: Path, entry: dict[str, str]) -> None:
        path = layout / "blobs" / entry["digest"].replace(":", "/")
        if path in self._whole:
            return
        manifest = path.read_bytes()
        assert hexdigest(manifest) == path.name
        value = json.loads(manifest)
        for descriptor in (value["config"], *value["layers"]):
            blob = layout / "blobs" / descriptor["digest"].replace(":", "/")
            assert hexdigest(blob.read_bytes()) == blob.name
        self._whole.add(path)

    async def read_registry(self) -> None:
        """Pull everything that the registry lists."""
        _, content = await get(f"{self._registry}/v2/_catalog")
        for repository in json.loads(content)["repositories"]:
            status, content = await get(f"{self._registry}/v2/{repository}/tags/list")
            for tag in json.loads(content)["tags"] if status == 200 else ():
                status, manifest = await get(f"{self._registry}/v2/{repository}/manifests/{tag}")
                assert status in (200, 404), "404 where the tag was withdrawn since"
                if status == 200:
                    await pull(self._registry, repository, f"sha256:{hexdigest(manifest)}")


@contextlib.asynccontextmanager
async def reading(world: World) -> AsyncIterator[Reader]:
    """Have a reader at work while the block runs."""
    async with registry_only(Settings(config.load(world.configuration()).config), Sockets()) as workers:
        reader = Reader(world, workers.address)
        task = asyncio.create_task(reader.run())
        yield reader
        before = reader.rounds
        await eventually(lambda: task.done() or reader.rounds > before + 1)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError), outcome


def change(world: World, number: int) -> dict[str, str]:
    """Change the store as every round does: a tag moves, one image comes, one goes. Return what is wanted."""
    double = world.double
    app = double.build("localhost/app:1", "base", f"layer {number}")
    double.tag(app.id, "localhost/org/same:1")
    extra = double.build(f"localhost/extra/n{number}:1", "base", f"extra {number}")
    for image in list(double.images().values()):
        if image["Id"] not in (app.id, extra.id):
            double.remove(image["Id"])
    return {"app:1": app.id, "org/same:1": app.id, f"extra/n{number}:1": extra.id}


@contextlib.asynccontextmanager
async def syncing(world: World) -> AsyncIterator[Callable[[int], Awaitable[tuple[int, int]]]]:
    """Yield a function that runs one pass, which dies before the given change: changes made, and exit code."""
    process = await world.start(str(DYING), str(world.tree), "sync")
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def sync(last: int) -> tuple[int, int]:
        stdin.write(f"{last}\n".encode())
        changes, code = (await asyncio.wait_for(stdout.readline(), DEADLINE)).split()
        return int(changes), int(code)

    yield sync
    stdin.close()
    await process.communicate()


async def test_a_kill_at_every_second_change_of_the_tree_leaves_it_whole_and_the_next_start_converges(
    world: World,
) -> None:
    async with world.podman(), reading(world) as reader, syncing(world) as sync:
        change(world, 0)
        assert (await sync(0))[1] == 0
        change(world, 1)
        total, code = await sync(0)
        assert code == 0
        assert total > LEAST
        for number in range(1, total + 1, STEP):
            change(world, 1 + number)
            assert await sync(number) in ((number - 1, -9), (total, 0))
        wanted = change(world, 0)
        assert (await sync(0))[1] == 0
        assert world.shown() == wanted
        assert world.staged() == []
        assert reader.rounds > 5
    assert (await world.command("verify")).output == "the tree is whole\n"


async def test_a_kill_of_the_service_anywhere_in_an_export_leaves_nothing_and_the_next_start_converges(
    world: World,
) -> None:
    async with world.podman(), reading(world):
        for layer in range(3):
            held = world.double.gate(f"layer{layer}")
            world.double.faults.add("save", "hold", after=layer, deaf=False, gate=str(held.path))
            made = world.double.build("localhost/app:1", *(f"{layer} {number}" for number in range(3)))
            service = await world.start("serve")
            await held.reached()
            service.kill()
            await service.communicate()
            held.open()
            assert made.id not in world.shown().values()
        async with world.service():
            assert world.shown() == {"app:1": made.id}
            await eventually(lambda: world.staged() == [])
    assert (await world.command("verify")).output == "the tree is whole\n"


async def test_a_kill_of_the_service_leaves_sockets_and_lock_that_the_next_one_takes(world: World) -> None:
    async with world.podman():
        made = world.double.build("localhost/app:1")
        service = await world.start("serve")
        await world.shows({"app:1": made.id})
        service.kill()
        await service.communicate()
        assert world.control.exists()
        async with world.service():
            assert await world.pull("app", "1") == made.id
