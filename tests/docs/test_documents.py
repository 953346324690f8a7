"""Every command of podbridge that a document shows exists with its options, and every configuration loads."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from bridge.cli import cli
from bridge.config import Config, load
from tests.docs.blocks import Block, blocks, documents, mentioned
from tests.systemd.box import REPOSITORY

BLOCKS = [block for document in documents() for block in blocks(document)]
SHOWN = [(str(block), command) for block in BLOCKS if block.language in ("sh", "console") for command in block.commands]
MENTIONED = [(document.name, command) for document in documents() for command in mentioned(document)]


def words(command: str) -> list[str]:
    """Return the words of one command, without what is optional in it and what the shell does with it."""
    command = re.split(r"\s(?:[|&;>#]|2>|&&)", re.sub(r"[\[\]…]|\.\.\.", "", command))[0]
    return shlex.split(command.split("\n")[0])[1:]


def parse(arguments: list[str]) -> None:
    """Find the verb and parse its options, as click does; raise UsageError for what there is not."""
    command: click.Command = cli
    context: click.Context | None = None
    while True:
        context = click.Context(command, parent=context)
        _, rest, _ = command.make_parser(context).parse_args(list(arguments))
        if not isinstance(command, click.Group) or not rest:
            return
        _, found, arguments = command.resolve_command(context, rest)
        assert found is not None
        command = found


@pytest.mark.parametrize(("where", "command"), SHOWN)
def test_a_command_that_is_shown_is_one(where: str, command: str) -> None:
    parse(words(command))


@pytest.mark.parametrize(("where", "command"), MENTIONED)
def test_a_command_that_is_mentioned_is_one(where: str, command: str) -> None:
    parse(words(command))


def test_commands_are_found_and_a_wrong_one_is_refused() -> None:
    assert len(SHOWN) > 10
    assert len(MENTIONED) > 20
    for wrong in ("podbridge frobnicate", "podbridge status --frobnicate", "podbridge config frobnicate"):
        with pytest.raises(click.UsageError):
            parse(words(wrong))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_a_configuration_that_is_shown_loads(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text(block.text, encoding="utf-8")
    assert isinstance(load(file).config, Config)


def test_the_example_of_a_configuration_is_all_comments_and_shows_the_defaults(tmp_path: Path) -> None:
    text = (REPOSITORY / "contrib" / "podbridge.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) is None
    file = tmp_path / "podbridge.yaml"
    file.write_text("".join(f"{line[2:]}\n" for line in text.splitlines()[4:] if line.strip()), encoding="utf-8")
    shown = load(file)
    values = {key: value for key, value, _ in shown.values()}
    defaults = {key: value for key, value, _ in load(_empty(tmp_path)).values()}
    examples = (
        "api", "control", "hooks", "metrics", "podman.socket", "publish", "registry.auth", "registry.idle_exit",
        "registry.tls", "registry.workers", "tree",
    )  # fmt: skip
    differing = {key for key in defaults if values.get(key) != defaults[key] and not key.startswith(examples)}
    assert differing == set()
    assert {key for key in defaults if key not in shown.origins and not key.startswith(examples)} == set()


def _empty(directory: Path) -> Path:
    file = directory / "empty.yaml"
    file.write_text("", encoding="utf-8")
    return file


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_a_link_to_another_file_leads_to_one(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
