"""The two podmans that every contract test runs on."""

from collections.abc import AsyncIterator, Iterator

import pytest

from bridge.podman.client import Podman
from tests.contract.backends import Backend, store

KINDS = ("podman", "double")


@pytest.fixture(scope="session", params=KINDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """One store for all tests, with its service; every test uses names of its own."""
    with store(request.param) as made, made.service():
        yield made


@pytest.fixture(params=KINDS)
def fresh(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A store of the test's own, without a service."""
    with store(request.param) as made:
        yield made


@pytest.fixture
async def podman(backend: Backend) -> AsyncIterator[Podman]:
    """A connection to the backend's service."""
    async with Podman(backend.socket) as connection:
        yield connection
