"""A world with a directory for hooks, as the tests of faults have it."""

import pytest

from tests.faults.conftest import world as world  # noqa: PLC0414 - a fixture
from tests.faults.world import World
from tests.hooks.shelf import Shelf


@pytest.fixture
def shelf(world: World) -> Shelf:
    """Where the hooks of the world's podbridge lie."""
    shelf = Shelf(world.directory / "hooks.d")
    world.settings["hooks"] = {"directories": [str(shelf.directory)]}
    return shelf
