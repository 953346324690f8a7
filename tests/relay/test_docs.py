"""Every example of docs/api.md about the api socket, run as it stands there but for socket and port."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import run
from tests.relay.worlds import World, world

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8").partition("## The api socket")[2]
EXAMPLES = re.findall(r"^```(sh|python)\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    """A world of the documented profile with the documented image."""
    with world("publish") as here:
        here.store.build("localhost/app:1")
        yield here


@pytest.mark.parametrize(("language", "example"), EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_an_example_publishes_what_it_says(here: World, language: str, example: str) -> None:
    if "docker" in example and shutil.which("docker") is None:
        pytest.skip("docker is not installed; contrib/check unpacks it")
    program = ["bash", "-euc"] if language == "sh" else [sys.executable, "-c"]
    text = example.replace("/run/podbridge/api.sock", str(here.bridge)).replace("127.0.0.1:5000", here.own)
    run(*program, text)
    (tag,) = set(re.findall(r"team/app(?::|\", \")(\d)", example))
    assert here.registry.shows("team/app", tag, here.store.digest("localhost/app:1"))


def test_there_are_examples_for_every_client() -> None:
    assert [language for language, _ in EXAMPLES] == ["sh", "sh", "python", "sh"]
