"""Crash points of every change of a small tree, and an error at each call: the short form of `tests.chaos.crash`."""

import os

import pytest

from tests.chaos import crash
from tests.chaos.ground import SCENARIOS

SEED = int(os.environ.get("PODBRIDGE_CHAOS_SEED", "1"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_before_any_call_and_after_an_error_of_any_the_tree_is_whole_and_converges(name: str) -> None:
    counts = crash.run(SEED, share=0, every=SHORT.get(name, 3), names=(name,))
    assert counts.total() > 20


SHORT = {"withdraw": 1, "sweep": 1, "publish": 4, "relink": 6, "repair": 6}
"""Which calls are tried in the short form: each, or one of so many. The long form tries all."""
