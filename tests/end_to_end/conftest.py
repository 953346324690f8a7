"""One store with one service for all tests that only add to it, and stores of their own for the others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import scratch
from tests.end_to_end.services import Client, Service
from tests.end_to_end.stores import Store


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service on a store that began empty."""
    with scratch() as directory, Service(Store(directory), directory / "p") as service:
        yield service


@pytest.fixture
def store(service: Service) -> Store:
    """The store of the service."""
    return service.store


@pytest.fixture
def client(service: Service) -> Client:
    """A client of the service's registry."""
    return service.client


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name for one test."""
    with scratch() as directory:
        yield directory


@pytest.fixture
def own(directory: Path) -> Iterator[Service]:
    """A service of the test's own, on an empty store, not started; ended after the test if it runs."""
    service = Service(Store(directory), directory / "p")
    yield service
    if service.process is not None and service.process.poll() is None:
        service.end()
