"""The command that tries to break everything says how to repeat what it did, and leaves nothing when it is ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import ground
from tests.chaos.__main__ import table
from tests.end_to_end.programs import eventually, mounts_below, processes_on, scratch

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def place() -> Iterator[Path]:
    """The directory in which the command works."""
    with scratch() as directory:
        yield directory


@pytest.mark.parametrize(("only", "number"), [("world", signal.SIGINT), ("disks", signal.SIGTERM)])
def test_when_it_is_ended_it_leaves_no_process_no_mount_and_no_file(
    place: Path, only: str, number: signal.Signals
) -> None:
    if only == "disks" and os.geteuid():
        pytest.skip("mounting takes root")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", "--minutes", "5", "--seed", "1", "--only", only],
        cwd=CHECKOUT, env=os.environ | {ground.PLACE: str(place)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        eventually(lambda: mounts_below(place) if only == "disks" else processes_on(place, "serve"))
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "chaos: seed 1, 5 minutes" in output
    assert f"repeat it: python -m tests.chaos --only {only} --seed 1" in output
    assert (mounts_below(place), processes_on(place), list(place.iterdir())) == ([], [], [])


def test_a_report_is_a_table_of_what_was_tried() -> None:
    report = json.loads('{"seed": 1, "minutes": 30, "counts": {"crash": {"kills at rename": 1200, "rounds": 2}}}')
    assert table(report).splitlines()[2:] == ["| crash: kills at rename | 1,200 |", "| crash: rounds | 2 |"]
