"""Some of the troubles that come over a service; all of them by `python -m tests.chaos --only world`."""

import pytest

from tests.chaos import world

SHORT = (
    "the clock jumps two hours ahead", "inotify overflows", "podman answers half a listing",
    "podman's socket is replaced", "the store is reset", "a worker is killed",
    "the service is stopped for a while", "an old version on the same tree",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_a_service_lives_through_the_troubles_of_the_world_and_makes_up_for_them() -> None:
    troubles = world.possible(lambda name: name in SHORT)
    assert world.run(troubles, side_by_side=2).keys() == troubles.keys()
