"""A test run that is ended leaves no process behind, whatever ended it, and no shim."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import shim
from tests.end_to_end.programs import eventually

HERE = Path(__file__).parents[2]

RUN = """
import subprocess, sys, time
from tests import orphans
orphans.guard()
registry = [sys.executable, "-m", "bridge", "registry", "--tree", sys.argv[1], "--listen", "127.0.0.1:0"]
started = [subprocess.Popen(registry), subprocess.Popen(["sh", "-c", "setsid sleep 1000 & sleep 1000"])]
print(*(process.pid for process in started), flush=True)
time.sleep(1000)
"""


def family(pid: int) -> set[int]:
    """Return a process and all that it has started."""
    found = {pid}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            found |= family(int(child))
    return found


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_test_run_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path / "t")]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        started = [int(word) for word in run.stdout.readline().split()]
        eventually(lambda: len(family(started[1])) == 3 and len(family(started[0])) > 1)
        left = set().union(*map(family, started))
        run.send_signal(number)
    eventually(lambda: not any(map(runs, left)))


def test_processes_share_one_shim_and_leave_nothing(tmp_path: Path) -> None:
    program = "from tests.chaos.shim import library; print(library())"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    made = subprocess.run([sys.executable, "-c", program], cwd=HERE, env=environment, capture_output=True, check=True)
    assert made.stdout.decode().strip() == str(shim.library())
    assert list(tmp_path.iterdir()) == []
