"""Real clients, each against podman directly and through podbridge: equal, but for what podbridge adds."""

import shutil
from collections.abc import Iterator

import pytest

from tests.benchmarks.meter import peak_bytes
from tests.benchmarks.relay import MEMORY_FLOOR, NAME, save, send
from tests.end_to_end.programs import eventually
from tests.relay.scenarios import SCENARIOS, Bench
from tests.relay.worlds import World, shell, world


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    """A world with an image to run."""
    with world() as here:
        shell(here.store)
        yield here


@pytest.mark.filterwarnings("ignore:.*_TemporaryFileCloser")  # podman-py leaves its build context to Python 3.14
@pytest.mark.parametrize("client", SCENARIOS)
async def test_a_client_cannot_tell_podbridge_from_podman(here: World, client: str) -> None:
    if client == "docker" and shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    word = client.replace("-", "")
    seen = []
    for socket, registry, way in ((here.direct, here.plain, "direct"), (here.bridge, here.own, "bridge")):
        found = SCENARIOS[client](Bench(socket, here.store.directory, registry, f"{word}{way}"))
        seen.append(found if isinstance(found, dict) else await found)
    direct, bridge = seen
    assert bridge == direct
    assert all(value is not False for value in bridge.values())
    assert here.registry.digest(f"{word}bridge", "1") is not None


def test_large_bodies_pass_without_memory(here: World) -> None:
    """Both ways 200 MB: what the service holds at its peak does not grow with them."""
    here.store.build_large(NAME, 200)
    process = here.service.process
    assert process is not None
    eventually(lambda: here.registry.digest("large", "1"))
    before = peak_bytes(process.pid)
    save(here.bridge, 200)
    send(here.bridge, 200)
    assert peak_bytes(process.pid) - before < MEMORY_FLOOR
