"""What one user's connections take is no other user's loss: places at the control socket, by who has connected."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from tests.double.gates import DEADLINE
from tests.faults.world import World

STATUS = b"GET /bridge/v1/status HTTP/1.1\r\nHost: d\r\n\r\n"
EVENTS = b"GET /bridge/v1/events HTTP/1.1\r\nHost: d\r\n\r\n"
GREEDY, OTHER = 54321, 54322

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="connects as other users")


@contextlib.contextmanager
def connections(world: World, user: int, count: int, content: bytes = b"") -> Iterator[list[socket.socket]]:
    """Have so many connections of a user, each of which has sent the content.

    The kernel tells the service who the thread acted as when it connected.
    """
    world.directory.chmod(0o755)
    world.control.chmod(0o666)
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
        os.seteuid(user)
        try:
            for one in found:
                one.connect(str(world.control))
        finally:
            os.seteuid(0)
        for one in found:
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.send(content)
        yield found


async def answer(one: socket.socket, content: bytes = b"") -> bytes:
    """Send a request, and return the first bytes of its answer; none if the connection has ended."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        if content:
            await loop.sock_sendall(one, content)
        async with asyncio.timeout(DEADLINE):
            return await loop.sock_recv(one, 4096)
    return b""


@pytest.mark.parametrize(
    ("content", "leaves"), [(b"", 0), (STATUS[:20], 0), (EVENTS, -1)], ids=["silent", "begun", "events"]
)
async def test_a_user_who_takes_all_there_is_leaves_another_one_its_places(
    world: World, content: bytes, leaves: int
) -> None:
    """Of the greedy one's own connections the first goes if it is idle, else the last."""
    async with world.podman(), world.service():
        with connections(world, OTHER, 3) as early:
            assert (await answer(early[0], STATUS)).startswith(b"HTTP/1.1 200 ")
            with connections(world, GREEDY, 600, content) as greedy, connections(world, OTHER, 10) as late:
                for one in (*early, *late):
                    assert (await answer(one, STATUS)).startswith(b"HTTP/1.1 200 ")
                with connections(world, OTHER, 1) as follower:
                    assert (await answer(follower[0], EVENTS)).startswith(b"HTTP/1.1 200 ")
                assert (await world.status())["pid"] == os.getpid()
                assert (await answer(greedy[leaves])).startswith(b"HTTP/1.1 503 ")


async def test_what_several_users_take_leaves_root_a_reserve(world: World) -> None:
    async with world.podman(), world.service():
        with contextlib.ExitStack() as stack:
            for number in range(12):
                stack.enter_context(connections(world, GREEDY + number, 100, STATUS[:20]))
            root = stack.enter_context(connections(world, 0, 20))
            for one in root:
                assert (await answer(one, STATUS)).startswith(b"HTTP/1.1 200 ")
