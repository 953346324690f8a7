"""What an operator reads of a failure, which is told once if it repeats."""

import pytest

from bridge.errors import PodmanError
from bridge.publish.failures import words

DIRECTORY = "/var/lib/podbridge/staging"


@pytest.mark.parametrize(
    "temporary",
    [
        "{n}/scratch/{n}",  # podman 4.3
        "{n}/scratch/container_images_{n}",  # podman 5.8
        "{n}/scratch/storage{n}/layer",
        "{n}/layout/oci-put-blob{n}",
    ],
)
def test_a_try_that_fails_again_says_the_same_whatever_its_temporary_file_is_called(temporary: str) -> None:
    text = 'Error: writing "{}": write {}: no space left on device'
    told = set()
    for number in ("71", "908"):
        path = f"{DIRECTORY}/{temporary.format(n=number)}"
        told.add(words(PodmanError(text.format(path, path))))
    assert told == {
        'Error: writing "staging": write staging: no space left on device; free some space on the disk of the tree'
    }
