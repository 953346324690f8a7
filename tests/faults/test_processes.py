"""A service that may start no process, nor a thread: it says so, goes on with what needs none, and makes up for it."""

import os
import subprocess

import pytest

from tests.double.gates import eventually
from tests.faults.attacks import serving
from tests.faults.world import World

AS_ANOTHER = ("setpriv", "--reuid=54321", "--clear-groups")
LIMITED = (*AS_ANOTHER, "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
"""Makes a program one of a user for whom a limit of processes holds, not as for root; it reads what root may."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="has a program run as another user")


def may_start(pid: int, processes: int) -> None:
    """Let a program have so many processes and threads from now on, those that its user has already included."""
    subprocess.run([*AS_ANOTHER, "prlimit", f"--pid={pid}", f"--nproc={processes}:"], check=True)


async def test_without_a_process_an_image_waits_the_rest_goes_on_and_all_is_made_up_for(world: World) -> None:
    world.directory.chmod(0o755)
    first = world.double.build("localhost/first:1")
    async with world.podman(), serving(world, 512, *LIMITED) as service:
        await world.shows({"first:1": first.id})
        may_start(service.pid, 1)
        second = world.double.build("localhost/second:1")
        words = await world.failed("second:1")
        assert "Resource temporarily unavailable" in words or "can't start new thread" in words
        assert await world.pull("first", "1") == first.id
        assert world.shown() == {"first:1": first.id}
        assert (await world.status())["pid"] == service.pid
        may_start(service.pid, 4096)
        await world.shows({"first:1": first.id, "second:1": second.id})
        await eventually(service.is_whole, what="every condition is well")
        assert await world.pull("second", "1") == second.id
