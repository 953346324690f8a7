"""A service with two images for the verbs that ask one, and a place for those that do not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name for one test."""
    with scratch() as directory:
        yield directory


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """A service that publishes `hello:1` and `other:1`, each of an image of its own."""
    with scratch() as directory:
        store = Store(directory)
        store.build("localhost/hello:1")
        store.build("localhost/other:1")
        with Service(store, directory / "p") as service:
            yield service


@pytest.fixture
def own(directory: Path) -> Iterator[Service]:
    """A service of the test's own, on an empty store, not started; ended after the test if it runs."""
    service = Service(Store(directory), directory / "p")
    yield service
    if service.process is not None and service.process.poll() is None:
        service.end()
