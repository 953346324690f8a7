"""What a running service takes up of a new configuration, and what it keeps."""

import logging
from pathlib import Path

import msgspec
import pytest

from bridge.config import Config, EncodingsConfig, PodmanConfig, RegistryConfig
from bridge.errors import ConfigError
from bridge.service.settings import TAKEN_UP, Settings
from bridge.units import Address, Bytes, Seconds


async def test_what_can_change_is_taken_up_by_every_follower() -> None:
    settings = Settings(Config())
    seen: list[float] = []

    async def follow(config: Config) -> None:
        seen.append(config.resync)

    with settings.followed_by(follow):
        await settings.change(Config(resync=Seconds(7), encodings=EncodingsConfig(space=Bytes(0))))
    await settings.change(Config(resync=Seconds(8)))
    assert seen == [7]
    assert settings.config == Config(resync=Seconds(8))


async def test_what_takes_a_restart_stays_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(Config())
    new = Config(
        tree=Path("/elsewhere"),
        podman=PodmanConfig(command=("podman", "--root", "/x")),
        registry=RegistryConfig(listen=Address("0.0.0.0:5000")),
        grace=Seconds(7),
    )
    with caplog.at_level(logging.WARNING):
        await settings.change(new)
    assert settings.config == Config(grace=Seconds(7))
    named = {record.getMessage().partition("key=")[2] for record in caplog.records}
    assert named == {"tree", "podman.command", "registry.listen"}


async def test_a_configuration_that_a_follower_refuses_is_not_in_force() -> None:
    settings = Settings(Config())

    async def refuse(_: Config) -> None:
        raise ConfigError

    with settings.followed_by(refuse), pytest.raises(ConfigError):
        await settings.change(Config(grace=Seconds(7)))
    assert settings.config == Config()


def test_everything_that_is_taken_up_is_a_setting() -> None:
    keys = {key for key, _ in _leaves(Config())}
    assert keys >= TAKEN_UP


def _leaves(section: msgspec.Struct, prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in section.__struct_fields__:
        value = getattr(section, name)
        below = _leaves(value, f"{prefix}{name}.") if isinstance(value, msgspec.Struct) else []
        found += below or [(f"{prefix}{name}", value)]
    return found
