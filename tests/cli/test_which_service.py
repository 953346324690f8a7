"""Which service the command line of a plain user asks: his own, or, where he runs none, the one of the system."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import world
from tests.faults.world import Answer, World

__all__ = ["world"]


_AS_A_USER = """
import os, pathlib, sys
from bridge import config
config.SYSTEM_SOCKET = pathlib.Path(sys.argv.pop(1))
os.geteuid = lambda: 4321
from bridge.cli import main
main()
"""
"""podbridge as it runs for who is not root, with the system's control socket at another place."""


class User:
    """A plain user, with a home and a runtime directory of his own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.own = directory / "run" / "podbridge" / "control.sock"
        self.file = directory / "config" / "podbridge" / "podbridge.yaml"
        for path in (self.own, self.file):
            path.parent.mkdir(parents=True)

    async def ask(self, system: Path, *words: str) -> Answer:
        """Run a verb where the system's service takes commands on `system`."""
        places = {"XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "HOME": "."}
        environment = {**os.environ, **{name: str(self.directory / place) for name, place in places.items()}}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _AS_A_USER, str(system), *words,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode is not None
        return Answer(process.returncode, output.decode(), errors.decode())


@pytest.fixture
def user(world: World) -> User:
    """Somebody who is not root."""
    return User(world.directory / "user")


async def test_without_a_service_of_his_own_he_asks_the_one_of_the_system(world: World, user: User) -> None:
    async with world.podman(), world.service():
        answer = await user.ask(world.control, "status", "--json")
    assert answer.code == 0, answer.errors
    assert json.loads(answer.output)["tree"] == str(world.tree)


async def test_his_own_service_is_asked_first(world: World, user: User) -> None:
    own, system = user.own, world.directory / "system"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(system))
        listener.listen()
        world.settings["control"] = {"socket": str(own)}
        async with world.podman(), world.service():
            answer = await user.ask(system, "status", "--json")
    assert answer.code == 0, answer.errors
    assert json.loads(answer.output)["sockets"]["control"] == str(own)


@pytest.mark.parametrize("named", [False, True])
async def test_where_none_runs_his_own_socket_is_named(world: World, user: User, named: bool) -> None:
    """A socket that he has configured is the one that he means, whatever the system runs."""
    other = world.directory / "other"
    if named:
        user.file.write_text(json.dumps({"control": {"socket": str(other)}}), encoding="utf-8")
    async with world.podman(), world.service():
        answer = await user.ask(world.control if named else world.directory / "nothing", "status")
    assert answer.code == 1
    assert f"no podbridge service answers on {other if named else user.own}" in answer.errors
