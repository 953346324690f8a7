"""A store that is wiped, or not mounted, does not wipe the registry."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.end_to_end.programs import eventually, run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, tar
from tests.kinds.workshop import Workshop

NAMES = [f"app{number}" for number in range(12)]


@pytest.fixture(scope="module")
def stocked() -> Iterator[Service]:
    """A service, not started, on a store with twelve images, each of them published."""
    with scratch() as directory:
        workshop = Workshop(Store(directory), directory / "s", "")
        workshop.directory.mkdir()
        for name in NAMES:
            layouts.write(workshop.directory / name, [Layer(tar(name))])
        take_all(workshop)
        service = Service(workshop.store, directory / "p")
        service.tell("sync")
        run("cp", "--archive", service.tree, directory / "p" / "copy")
        yield service


@pytest.fixture
def wiped(stocked: Service) -> Iterator[Service]:
    """A service, not started, whose tree shows the twelve and whose store is empty, as if it were not mounted."""
    with scratch() as directory:
        service = Service(Store(directory), directory / "p")
        run("cp", "--archive", stocked.directory / "copy", service.tree)
        yield service


def take_all(workshop: Workshop) -> None:
    for name in NAMES:
        workshop.take(f"dir:{workshop.directory / name}", name)


@contextmanager
def standing_still(service: Service) -> Iterator[None]:
    """Stop the service while the block changes its store, as a mount does: all at once, for one pass."""
    service.tell("resync")  # by its end no pass of the start is under way any more
    assert service.process is not None
    service.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        service.process.send_signal(signal.SIGCONT)


def shown(service: Service) -> list[str]:
    return [name for name in NAMES if service.client.digest(name, "1")]


def counts(service: Service) -> Any:
    """Return the counts of `podbridge status`."""
    return json.loads(service.ask("status", "--json").stdout)["counts"]


def test_a_wiped_store_is_told_loudly_and_everything_stays_pullable_until_it_is_let_through(stocked: Service) -> None:
    with stocked as service:
        with standing_still(service):
            service.store.podman("rmi", "-a", "-f")
        eventually(lambda: counts(service)["heldBack"] == 12)
        (line,) = [line for line in service.said().splitlines() if "mass withdrawal held back" in line]
        assert " ERROR " in line
        status = service.ask("status")
        assert status.returncode == 1
        assert "12 withdrawals are held back; `podbridge resync --prune` lets them through" in status.stdout
        service.tell("resync")
        for name in NAMES:
            seen.image(service.client, name, "1")
        service.tell("resync", "--prune")
        assert shown(service) == []
        assert service.ask("status").returncode == 0


def test_an_unmounted_store_that_returns_leaves_everything_as_it_was(stocked: Service, wiped: Service) -> None:
    with wiped as service:
        assert (len(shown(service)), counts(service)["heldBack"]) == (12, 12)
        with standing_still(service):
            take_all(Workshop(service.store, stocked.store.directory / "s", ""))
        eventually(lambda: service.ask("status").returncode == 0)
        assert shown(service) == NAMES
        assert counts(service)["heldBack"] == 0
        assert service.tell("verify") == "the tree is whole"


def test_a_pass_without_the_service_holds_back_too_and_prunes_when_told(wiped: Service) -> None:
    done = wiped.ask("sync")
    assert (done.returncode, "mass withdrawal held back" in done.stderr) == (1, True)
    assert len(tagged(wiped)) == 12
    assert wiped.tell("sync", "--dry-run").splitlines() == [
        f"would hold back the withdrawal of {name}:1; --prune lets it through" for name in sorted(NAMES)
    ]
    assert wiped.tell("sync", "--dry-run", "--prune").splitlines()[0] == "would withdraw app0:1"
    wiped.tell("sync", "--prune")
    assert tagged(wiped) == []


def test_the_configuration_can_allow_it(wiped: Service) -> None:
    wiped.configure({"max_withdraw": "100%"})
    assert wiped.tell("sync") == f"0 published in {wiped.tree}"
    assert tagged(wiped) == []


def tagged(service: Service) -> list[dict[str, Any]]:
    return seen.views(service, "--tree", str(service.tree))
