"""Every example of docs/api.md about the control API, run as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
SECTION = DOCUMENT.read_text(encoding="utf-8").partition("\n## The api socket")[0]
"""The control API: the page's first part."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service for this page alone: its examples leave much behind."""
    with scratch() as directory:
        store = Store(directory)
        store.build("localhost/hello:1")
        with Service(store, directory / "p") as service:
            yield service


def examples(language: str) -> list[str]:
    """Return the blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def run(service: Service, *command: str) -> str:
    """Run a program that must succeed, with the socket where the page says."""
    environment = {**os.environ, "CONTROL": str(service.socket)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done
    return done.stdout


def test_the_page_shows_curl_and_python() -> None:
    assert (len(examples("sh")), len(examples("python"))) == (2, 1)


@pytest.mark.parametrize("number", range(len(examples("sh"))))
def test_each_command_of_the_shell_does_what_it_says(service: Service, number: int) -> None:
    said = run(service, "bash", "-euo", "pipefail", "-c", examples("sh")[number])
    if number:
        return
    digest = service.store.digest("localhost/hello:1")
    assert '"type": "Ready"' in said
    for line in (f"hello:1 {digest}", '"exact"', "default: published as hello:1", "Published", "by/hand:3", "ready"):
        assert line in said.splitlines(), said
    assert f'{{"manifestdigest":"{digest}"}}' in said
    assert 'podbridge_publications{state="Published"}' in said
    assert service.client.digest("by/hand", "1") is None


def test_the_python_does_what_it_says(service: Service) -> None:
    digest = service.store.digest("localhost/hello:1")
    first, second = run(service, sys.executable, "-c", examples("python")[0]).splitlines()
    assert first == f"from/python:1 {digest} exact"
    assert second.startswith("404 NotPublished nothing:1 is not published")
    assert service.client.shows("from/python", "1", digest)
