"""The short form of the storm: a quarter of a minute of it in every run of the tests."""

import os

import pytest

from tests.chaos.storm import Storm
from tests.end_to_end.programs import scratch

SEED = int(os.environ.get("PODBRIDGE_CHAOS_SEED", "1"))
SECONDS = 15.0


@pytest.mark.timeout(600)
def test_a_storm_on_the_real_podman_shows_no_wrong_byte_and_ends_with_the_store_served() -> None:
    with scratch() as directory:
        storm = Storm(directory, SEED)
        storm.run(SECONDS)
        assert storm.counts["manifests"] > 0
        assert storm.counts["blobs"] > 0
