"""Programs that a test runs: podbridge itself, podman's own, and what is left of them."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

PODBRIDGE = (sys.executable, "-m", "bridge")
SOON = 60.0
"""Seconds within which a change must show: podbridge means one, a small and busy machine gets more."""

IDLE = 300.0
"""Seconds for what runs at idle priority, and so not at all while the machine has anything else to do."""

PATIENCE = 600.0
"""Seconds for a command that works on large images."""

_Answer = TypeVar("_Answer")


def eventually(question: Callable[[], _Answer], seconds: float = SOON) -> _Answer:
    """Ask until the answer is a true one, and return it; fail with the last answer after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        time.sleep(0.02)  # between two looks


def run(*command: str | Path, timeout: float = 120) -> str:
    """Run a command that must succeed, and return what it printed without the white space around it."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def ask(*command: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail, and return its exit code and what it printed."""
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)


def podbridge(*words: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line of podbridge."""
    return ask(*PODBRIDGE, *words, timeout=timeout)


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody but who is told of it will get.

    It stays bound until this process ends, so the kernel gives it to no other test meanwhile. Every server binds with
    SO_REUSEADDR, which takes a port from a socket that has it too and does not listen.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port: int = held.getsockname()[1]
    held.detach()
    return port


@contextlib.contextmanager
def scratch(parent: Path = Path("/tmp")) -> Iterator[Path]:
    """Give a directory with a short name, for unix sockets; end what runs on it, unmount, and remove it.

    podman makes names of images of paths (`oci:PATH`): none of ours may end in an underscore, as tempfile's can.
    """
    parent.mkdir(parents=True, exist_ok=True)
    directory = parent.resolve() / f"pb{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        for process in processes_on(directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        eventually(lambda: not processes_on(directory))
        for mount in mounts_below(directory):
            run("umount", "--lazy", mount)
        shutil.rmtree(directory)


def processes_on(directory: Path, word: str = "") -> list[int]:
    """Return the processes whose command line names something in the directory, and `word`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                within = any(f"{directory}/".encode() in argument for argument in words)
                if within and word.encode() in b" ".join(words):
                    found.append(int(entry.name))
    return found


def mounts_below(directory: Path) -> list[str]:
    """Return what is mounted below the directory, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = (line.split()[4] for line in lines)
    return sorted((point for point in points if point.startswith(f"{directory}/")), reverse=True)
