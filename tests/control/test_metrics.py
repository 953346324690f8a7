"""What Prometheus reads: on the control socket always, on TCP where it is set."""

import asyncio

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.control.asking import ask
from tests.double.gates import DEADLINE, eventually
from tests.faults.world import World


def read(text: str) -> dict[str, float]:
    """Return every sample by its name and labels."""
    families = text_string_to_metric_families(text)
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


async def metrics(world: World) -> dict[str, float]:
    """Return what the service counts."""
    answer = await ask(world, "GET", "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(answer.body.decode())


async def counted(world: World, *samples: tuple[str, float]) -> dict[str, float]:
    """Wait until each of some metrics has its value, and return all."""

    async def have_come() -> bool:
        found = await metrics(world)
        return all(found.get(name) == value for name, value in samples)

    await eventually(have_come, what=str(samples))
    return await metrics(world)


async def test_a_publication_is_counted_with_its_export_and_its_lag(world: World) -> None:
    async with world.podman(), world.service():
        before = await metrics(world)
        assert before["podbridge_publications,state=Published"] == 0
        assert before["podbridge_export_seconds_count"] == 0
        made = world.double.build("localhost/app:1", "base", "own", size=1000)
        after = await counted(world, ("podbridge_publications,state=Published", 1))
        assert after["podbridge_publications,state=Denied"] == 0
        assert after["podbridge_changes_total,action=published"] == 1
        assert after["podbridge_export_seconds_count"] == 1
        assert after["podbridge_export_read_bytes_total"] == sum(map(len, made.layers))
        assert after["podbridge_publish_lag_seconds_count"] == 1
        assert 0 < after["podbridge_export_seconds_sum"] < after["podbridge_publish_lag_seconds_sum"] < DEADLINE
        assert after["podbridge_passes_total,result=changed"] >= 1
        assert after["podbridge_podman_up"] == 1
        assert after["podbridge_condition,type=Ready"] == 1
        world.double.tag(made.id, "localhost/app:2")
        again = await counted(world, ("podbridge_publish_lag_seconds_count", 2))
        assert again["podbridge_export_seconds_count"] == 1, "a tag needs no export"


async def test_the_lag_begins_with_the_first_sign_and_contains_the_wait_for_an_export(world: World) -> None:
    held = world.double.gate("save")
    async with world.podman(), world.service():
        world.double.faults.add("save", "hold", after=0, deaf=False, gate=str(held.path))
        made = world.double.build("localhost/app:1")
        await held.reached()
        noticed = asyncio.get_running_loop().time()
        for _ in range(3):
            assert (await ask(world, "POST", "resync")).status == 200
        await eventually(lambda: asyncio.get_running_loop().time() - noticed > 0.5)
        held.open()
        await world.shows({"app:1": made.id})
        told = await counted(world, ("podbridge_publish_lag_seconds_count", 1))
        assert told["podbridge_publish_lag_seconds_sum"] > 0.5


async def test_the_tree_is_counted(world: World) -> None:
    async with world.podman():
        async with world.service():
            made = world.double.build("localhost/app:1", "base", "own")
            await world.shows({"app:1": made.id})
        async with world.service():
            told = await metrics(world)
            assert told["podbridge_tree_blobs"] == 4
            size = sum(map(len, (*made.layers, made.config, made.manifest)))
            assert told["podbridge_tree_bytes"] == size
            assert told["podbridge_encodings"] == len(list((world.tree / "encoded" / "gzip").glob("*")))


async def test_a_podman_that_is_away_is_seen(world: World) -> None:
    async with world.service(ready=0):

        async def is_down() -> bool:
            found = await metrics(world)
            return found["podbridge_podman_up"] == 0 and found["podbridge_passes_total,result=failed"] > 0

        await eventually(is_down)


async def test_the_service_is_healthy_at_once_and_ready_after_its_first_pass(world: World) -> None:
    async with world.service(ready=0):
        assert (await ask(world, "GET", "/healthz")).body == b"ok\n"
        unready = await ask(world, "GET", "/readyz")
        assert (unready.status, unready.json["reason"]) == (503, "NotReady")
        assert "the first pass is not through yet" in unready.json["message"]
        async with world.podman():

            async def ready() -> bool:
                return (await ask(world, "GET", "/bridge/v1/readyz")).status == 200

            await eventually(ready)


async def test_metrics_and_probes_are_served_on_tcp_and_nothing_else(world: World) -> None:
    world.settings |= {"metrics": {"listen": "127.0.0.1:0"}}
    async with world.podman(), world.service():
        base = f"http://{(await world.status())['sockets']['metrics']}"
        async with aiohttp.ClientSession(base) as session:
            async with session.get("/metrics") as response:
                assert "podbridge_build_info" in await response.text()
            for path, status in (("/healthz", 200), ("/readyz", 200), ("/bridge/v1/status", 404)):
                async with session.get(path) as response:
                    assert response.status == status
                async with session.head(path) as response:  # as load balancers ask
                    assert (response.status, await response.read()) == (status, b"")


async def test_pulls_are_counted_by_code_and_by_encoding(world: World) -> None:
    async with world.podman(), world.service():
        made = world.double.build("localhost/app:1", "base", "own", size=1000)
        await world.shows({"app:1": made.id})
        await world.pull("app", "1")
        assert (await world.get("/v2/app/manifests/2"))[0] == 404
        codes = "podbridge_registry_requests_total,code="
        told = await counted(world, (f"{codes}404", 1), (f"{codes}200", 4))  # each worker tells by itself
        size = sum(map(len, (*made.layers, made.config, made.manifest)))
        assert told["podbridge_registry_sent_bytes_total,encoding=identity"] >= size
        assert told["podbridge_registry_sent_bytes_total,encoding=gzip"] == 0
