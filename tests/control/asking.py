"""Asking a service over its control socket, as any program can."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy

from tests.faults.world import World

LINES = {"Accept": "application/x-ndjson"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The document."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

    @property
    def references(self) -> list[str]:
        """The references of a list of publications."""
        return [view["reference"] for view in self.json["publications"]]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The documents of a stream."""
        assert self.headers["Content-Type"] == "application/x-ndjson"
        return [json.loads(line) for line in self.body.splitlines() if line]


@contextlib.asynccontextmanager
async def asking(world: World, method: str, path: str, **arguments: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send a request, and have its answer while the block runs. A path without a slash is below `/bridge/v1`."""
    path = path if path.startswith("/") else f"/bridge/v1/{path}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(world.control))) as session,
        session.request(method, f"http://podbridge{path}", **arguments) as response,
    ):
        yield response


async def ask(world: World, method: str, path: str, **arguments: Any) -> Answer:
    """Send a request and return the whole answer."""
    async with asking(world, method, path, **arguments) as response:
        return Answer(response.status, response.headers, await response.read())


async def publish(world: World, body: dict[str, Any], path: str = "publications", **arguments: Any) -> Answer:
    """Ask for a publication."""
    return await ask(world, "POST", path, json=body, **arguments)
