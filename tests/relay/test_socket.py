"""The api socket of a service: there where it is configured, closed to others, and loud where it gives root."""

import asyncio
import logging
import stat

import pytest

from bridge.relay.calls import Call
from tests.faults.conftest import world
from tests.faults.world import World
from tests.relay.worlds import ask

__all__ = ["world"]


async def test_without_its_section_there_is_no_api_socket(world: World) -> None:
    async with world.podman(), world.service() as service:
        assert "api" not in service.status().sockets
        assert [path.name for path in world.directory.iterdir() if path.is_socket()] == ["c"]


@pytest.mark.parametrize(("profile", "warned"), [(None, False), ("read", False), ("publish", False), ("full", True)])
async def test_a_service_warns_at_its_start_that_full_is_root(
    world: World, profile: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    api = world.directory / "api"
    world.settings["api"] = {"socket": str(api)} | ({} if profile is None else {"profile": profile})
    async with world.podman(), world.service() as service:
        assert service.status().sockets["api"] == str(api)
        assert stat.S_IMODE(api.stat().st_mode) == 0o660
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("which is root" in said and str(api) in said for said in warnings) is warned
    assert not api.exists()


async def test_while_podman_is_away_a_push_is_answered_503_as_everything_is(world: World) -> None:
    api = world.directory / "api"
    world.settings["api"] = {"socket": str(api), "profile": "publish"}
    async with world.service(ready=0) as service:
        own = service.status().registry
        pushes = f"/v4.0.0/libpod/images/app:1/push?destination={own}/x:1", f"/images/{own}/x/push?tag=1"
        for path in pushes:
            answer = await asyncio.to_thread(ask, api, f"POST {path}")
            assert (answer.status, answer.json[0]["cause"]) == (503, "podman is away")
        (record,) = (await asyncio.to_thread(ask, api, f"POST {pushes[0]}&quiet=false")).json
        assert "podman does not answer" in str(record["error"])


async def test_a_push_to_an_ipv6_address_publishes_there(world: World) -> None:
    api = world.directory / "api"
    world.settings |= {
        "api": {"socket": str(api), "profile": "publish"},
        "registry": {"listen": "[::1]:0"},
        "publish": [{"match": "*", "skip": True}],
    }
    async with world.podman(), world.service() as service:
        made = world.double.build("localhost/hand:1")
        registry = service.facts.registry
        assert registry.startswith("[::1]:")
        path = f"/v4.0.0/libpod/images/localhost%2Fhand:1/push?destination={registry}/by/hand:1"
        answer = await asyncio.to_thread(ask, api, f"POST {path}")
        assert (answer.status, answer.records) == (200, (b"\n",))
        assert await world.pull("by/hand", "1") == made.id
        (told,) = (await asyncio.to_thread(ask, api, f"GET /v1.41/distribution/{registry}/by/hand:1/json")).json
        assert told["Descriptor"]["digest"] == made.digest  # type: ignore[index]


@pytest.mark.parametrize(
    ("request_line", "follows"),
    [
        ("GET /v1.41/events", True),
        ("GET /v4.0.0/libpod/events?stream=false", True),
        ("GET /containers/x/logs?follow=1", True),
        ("GET /containers/x/logs", False),
        ("GET /containers/x/logs?follow=false", False),
        ("POST /v4.0.0/libpod/containers/x/attach", True),
        ("GET /v4.0.0/libpod/containers/stats", True),
        ("POST /containers/x/wait", True),
        ("POST /build", False),
        ("GET /images/get?names=a", False),
        ("POST /v4.0.0/libpod/images/app/push?destination=x", False),
        ("POST /containers/x/stop", False),
    ],
)
def test_what_has_an_end_of_its_own_is_known_by_its_path(request_line: str, follows: bool) -> None:
    method, _, target = request_line.partition(" ")
    assert Call.parse(method, target).follows is follows
