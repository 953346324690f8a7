"""A world for each test, in a directory with a name short enough for unix sockets."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.double.store import Double
from tests.faults.world import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An empty store and no tree yet. The double's programs come first in PATH."""
    directory = Path(tempfile.mkdtemp(prefix="dbl", dir="/tmp"))
    double = Double.create(directory / "d")
    monkeypatch.setenv("PATH", f"{double.root / 'bin'}:{os.environ['PATH']}")
    yield World(directory, double)
    shutil.rmtree(directory)
