"""Every power cut of the changes that take or move what a reader sees: the short form of `tests.chaos.power`."""

import os

import pytest

from tests.chaos import power

SEED = int(os.environ.get("PODBRIDGE_CHAOS_SEED", "1"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["create", "move", "withdraw", "sweep", "leave", "encode"])
def test_after_a_power_cut_at_any_point_the_tree_is_whole_and_converges(name: str) -> None:
    counts = power.run(SEED, rounds=0, every=2 if name in ("move", "create", "encode") else 1, names=(name,))
    assert counts.total() > 5
