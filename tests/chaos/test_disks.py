"""Real file systems on loop devices, cut off: two cuts of each scenario. The long form is `tests.chaos.disks`."""

import os

import pytest

from tests.chaos import disks

SEED = int(os.environ.get("PODBRIDGE_CHAOS_SEED", "1"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", disks.KINDS)
def test_a_file_system_that_is_cut_off_keeps_every_acknowledged_publication(name: str) -> None:
    reason = disks.why_not(name)
    if reason:
        pytest.skip(reason)
    assert disks.run(SEED, cuts=1, kinds=(name,), names=("move", "leave")).total() == 2
