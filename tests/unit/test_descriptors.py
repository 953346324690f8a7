"""The limit of open files: raised for podbridge, given back to what it runs, divided among the sockets."""

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, subprocess
from bridge import descriptors, programs
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
descriptors.raise_limit()
descriptors.raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard)
shown = ["/bin/sh", "-c", "ulimit -S -n; ulimit -H -n"]
print(subprocess.run(programs.guarded(shown), capture_output=True, text=True).stdout.split() == ["200", str(hard)])
words, end = programs.bound(shown)
own = {"pass_fds": (end,), "start_new_session": True}  # a group of its own: that is killed when this program ends
print(subprocess.run(words, capture_output=True, text=True, **own).stdout.split() == ["200", str(hard)])
"""


def test_the_limit_is_raised_and_programs_get_back_the_one_that_was_given() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True", "True"]


@pytest.mark.parametrize(("limit", "least"), [(48, (8, 4, 3)), (1024, (200, 130, 64)), (20000, (256, 256, 64))])
def test_what_is_left_beside_our_own_work_is_divided(limit: int, least: tuple[int, int, int]) -> None:
    program = f"""
import resource
from bridge import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
found = descriptors.shares()
print(found.control, found.api, found.probes)
assert {limit} < 200 or found.control + 2 * found.api + found.probes + descriptors.OWN < {limit}
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    control, api, probes = map(int, done.stdout.split())
    assert (control >= least[0], api >= least[1], probes >= least[2]) == (True, True, True)
