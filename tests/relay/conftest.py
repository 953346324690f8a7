"""A relay with a short path."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.programs import scratch
from tests.relay.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A relay of the test's own, of profile `full`."""
    with scratch() as directory:
        yield Rig(directory)
