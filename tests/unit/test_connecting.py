"""Which way images come out of podman, where nobody says: decided from what can be known."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.config import Config, Export, PodmanConfig
from bridge.errors import ConfigError
from bridge.service.connecting import exports_over_rest, require_podman
from tests.end_to_end.programs import scratch

ELSEWHERE = "unix:///run/elsewhere/podman.sock"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's own podman socket, where nobody listens, and a podman program."""
    with scratch() as directory:
        monkeypatch.setattr("bridge.service.connecting.default_podman_socket", lambda: directory / "s")
        program = directory / "podman"
        program.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(directory))
        yield directory / "s"


def over_rest(**settings: object) -> bool:
    config = Config(podman=PodmanConfig(**settings))  # type: ignore[arg-type]
    require_podman(config)
    return exports_over_rest(config)


def test_the_users_own_podman_is_read_locally(own: Path) -> None:
    assert not over_rest()
    assert not over_rest(socket=f"unix://{own}")


def test_a_socket_somewhere_else_is_read_over_rest_unless_a_command_is_set_for_it(own: Path) -> None:
    assert over_rest(socket=ELSEWHERE)
    assert not over_rest(socket=ELSEWHERE, command=("podman", "--root", "/srv"))


def test_what_is_set_holds(own: Path) -> None:
    assert over_rest(export=Export.REST)
    assert not over_rest(socket=ELSEWHERE, export=Export.LOCAL)


def test_without_a_podman_program_a_socket_is_enough(own: Path) -> None:
    (own.parent / "podman").unlink()
    assert over_rest(socket=f"unix://{own}")
    with pytest.raises(ConfigError, match="podman is not installed"):
        over_rest()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(own))
        listener.listen()
        assert over_rest()


def test_a_command_that_is_set_and_missing_is_refused_but_for_rest(own: Path) -> None:
    with pytest.raises(ConfigError, match="/nowhere/podman is not installed"):
        over_rest(command=("/nowhere/podman",))
    assert over_rest(command=("/nowhere/podman",), export=Export.REST)
