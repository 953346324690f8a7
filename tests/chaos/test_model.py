"""A few stories for the stateful model: the short form of `tests.chaos.model`."""

import os

import pytest

from tests.chaos import model

SEED = int(os.environ.get("PODBRIDGE_CHAOS_SEED", "1"))


@pytest.mark.timeout(900)
def test_whatever_is_done_to_a_store_the_tree_shows_it_after_a_pass_and_a_second_pass_is_empty() -> None:
    counts = model.run(SEED, stories=3, steps=10)
    assert counts["stories"] >= 3
