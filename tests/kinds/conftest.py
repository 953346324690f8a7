"""One store with every kind of image, and one service, for all tests that only look; stores of their own for others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import run, scratch
from tests.end_to_end.registries import docker_registry
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds.catalogue import KINDS
from tests.kinds.workshop import Workshop


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """The address of a registry that keeps what is pushed into it."""
    with scratch() as directory, docker_registry(directory) as address:
        yield address


@pytest.fixture(scope="session")
def workshop(registry: str) -> Iterator[Workshop]:
    """A store with an image of every kind."""
    with scratch() as directory:
        workshop = Workshop(Store(directory), directory / "s", registry)
        workshop.directory.mkdir()
        for kind in KINDS:
            kind.make(workshop, kind.name)
        yield workshop


@pytest.fixture(scope="session")
def service(workshop: Workshop) -> Iterator[Service]:
    """A service that shows all of them, and none of the images that they were built on."""
    rules = [{"match": "*-base:1", "skip": True}]
    service = Service(workshop.store, workshop.store.directory / "p", {"publish": rules})
    run(*service.command("sync"), timeout=600)
    with service:
        yield service


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name for one test."""
    with scratch() as directory:
        yield directory


@pytest.fixture
def own(directory: Path, registry: str) -> Workshop:
    """An empty store of the test's own."""
    sources = directory / "s"
    sources.mkdir()
    return Workshop(Store(directory), sources, registry)
