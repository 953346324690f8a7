"""A world for each test, as the tests of faults have it."""

from tests.faults.conftest import world

__all__ = ["world"]
