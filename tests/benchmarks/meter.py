"""What commands cost: wall time, and the processor time of every process that they start, however distant.

`measure` runs this file as a program of its own, which adopts orphans (PR_SET_CHILD_SUBREAPER) and waits for
all of them: a daemon that a command leaves behind is counted, and so is one that it starts and stops.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TIMEOUT = 1800.0
"""Seconds for all commands of one measurement: ten times what the slowest one takes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of wall time, and of user and system time together."""

    wall: float
    cpu: float


def measure(commands: Sequence[Sequence[str]], server: int | None = None) -> Cost:
    """Run the commands one after the other; the processor time of the running `server`, a pid, is added.

    Everything written before is flushed to the disk first, so that nobody pays for another's writes.

    Raises:
        RuntimeError: a command failed, with its own words.
    """
    os.sync()
    before = cpu_seconds(server) if server else 0.0
    done = subprocess.run(
        [sys.executable, "-I", __file__],
        check=False,
        capture_output=True,
        text=True,
        input=json.dumps(commands),
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    wall, cpu = json.loads(done.stdout)
    return Cost(wall, cpu + (cpu_seconds(server) - before if server else 0.0))


def cpu_seconds(pid: int) -> float:
    """Return what a running process has used: proc(5), /proc/pid/stat, fields 14 (user) and 15 (system)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """Return the most memory that a running process has had resident: proc(5), VmHWM."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def children(pid: int) -> list[int]:
    """Return the pids of a running process's children."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text(encoding="utf-8").split()]


def main() -> int:
    """Run the commands that standard input lists as JSON; print wall and processor seconds as a JSON list."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    for command in json.load(sys.stdin):
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        if done.returncode:
            print(f"{' '.join(command)}: exit code {done.returncode}", file=sys.stderr)
            return 1
    wall = time.perf_counter() - start
    _reap()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps([wall, usage.ru_utime + usage.ru_stime]))
    return 0


def _reap() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main())
