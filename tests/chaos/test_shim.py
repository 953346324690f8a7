"""The shim lists what a program does to its files, and has chosen calls fail: once, from the Nth on, or for ever."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.shim import Shim

PROGRAM = """
import os, shutil, sys
os.chdir(sys.argv[1])
for number in range(3):
    try:
        os.makedirs("d")
        with open("d/new", "wb", buffering=0) as file:
            file.write(b"x")
            os.fsync(file.fileno())
        os.rename("d/new", "d/file")
        os.link("d/file", "d/link")
        shutil.rmtree("d")
        print("done")
    except OSError as error:
        print(error.strerror)
        os.path.exists("d") and shutil.rmtree("d")
"""


def run(shim: Shim, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(directory)]
    return subprocess.run(command, env=os.environ | shim.environment, capture_output=True, text=True, check=False)


def test_every_call_is_listed_with_its_whole_paths(tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{tmp_path}/d*")
    assert run(shim, tmp_path).stdout.split() == ["done"] * 3
    first = [(call.name, *call.paths) for call in shim.calls()][:6]
    new, file, link = (f"{tmp_path}/d/{name}" for name in ("new", "file", "link"))
    assert first == [
        ("mkdir", f"{tmp_path}/d"), ("open", new), ("write", new), ("fsync", new), ("rename", new, file),
        ("link", file, link),
    ]  # fmt: skip
    assert {call.paths[-1] for call in shim.calls("unlink", "rmdir")} == {file, link, f"{tmp_path}/d"}


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "fsync", "rename", "link", "unlink", "rmdir"])
@pytest.mark.parametrize(("first", "times", "failed"), [(1, 1, {0}), (2, 1, {1}), (2, 2, {1, 2})])
def test_a_call_fails_as_often_as_the_rule_says(
    tmp_path: Path, call: str, first: int, times: int, failed: set[int]
) -> None:
    shim = Shim(tmp_path, f"{tmp_path}/d*")
    if call in ("unlink", "rmdir"):  # two files are removed in each round, and the rest after a failure
        first, times, failed = 1, 1, {0}
    shim.fail(call, f"{tmp_path}/d*", "EIO", first=first, times=times)
    lines = run(shim, tmp_path).stdout.splitlines()
    assert {number for number, line in enumerate(lines) if line == os.strerror(5)} == failed


def test_a_process_is_killed_before_the_call(tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{tmp_path}/d*")
    shim.fail("rename", "*", "KILL", first=2)
    assert run(shim, tmp_path).returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
