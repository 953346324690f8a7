"""Load on a registry from the last core: requests by wrk where a body comes back, by plain sockets else."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .meter import children, cpu_seconds

ACCEPT = "application/vnd.oci.image.manifest.v1+json"
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Target:
    """A running server: its first process, and where it listens."""

    pid: int
    port: int

    @property
    def cpu(self) -> float:
        """The seconds of processor time that all its processes have used."""
        return sum(cpu_seconds(pid) for pid in (self.pid, *children(self.pid)))


@dataclass(frozen=True, slots=True)
class Rate:
    """How much of something a server did in a second, and in a second of its processor time."""

    second: float
    cpu_second: float


def measure(target: Target, load: Callable[[], float]) -> Rate:
    """Run `load`, which returns how much was done."""
    begun, used = time.perf_counter(), target.cpu
    done = load()
    return Rate(done / (time.perf_counter() - begun), done / max(target.cpu - used, 0.01))


def missing() -> list[str]:
    """Return the programs that a load needs and that are not installed."""
    return [program for program in ("wrk", "taskset") if shutil.which(program) is None]


def last_core() -> int:
    """Return the core from which the load comes; servers have the first one."""
    return (os.cpu_count() or 1) - 1


def gets(target: Target, paths: list[str], seconds: int, scratch: Path, connections: int = CONNECTIONS) -> float:
    """GET the paths in turn on kept connections; return the number of requests."""
    script = scratch / "wrk.lua"
    asked = "{" + ",".join(map(json.dumps, paths)) + "}"
    lines = [f"local paths, n = {asked}, 0", "request = function()", "  n = n + 1"]
    lines += [f'  return wrk.format("GET", paths[n % {len(paths)} + 1], {{Accept = "{ACCEPT}"}})', "end"]
    script.write_text("\n".join(lines), encoding="utf-8")
    url = f"http://127.0.0.1:{target.port}"
    command = ["taskset", "-c", str(last_core()), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    done = subprocess.run([*command, "-s", str(script), url], check=True, capture_output=True, text=True)
    found = re.search(r"(\d+) requests in", done.stdout)
    if found is None or "Non-2xx" in done.stdout or not int(found[1]):
        message = f"wrk on {paths[0]}:\n{done.stdout}"
        raise RuntimeError(message)
    return int(found[1])


def heads(target: Target, path: str, seconds: float) -> float:
    """HEAD the path on kept connections, which wrk cannot; return the number of requests."""
    request = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAccept: {ACCEPT}\r\n\r\n".encode()
    connections = [socket.create_connection(("127.0.0.1", target.port)) for _ in range(CONNECTIONS)]
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        for connection in connections:
            connection.send(request)
        for connection in connections:
            head = connection.recv(65536)
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(65536)
            assert b" 200 " in head.partition(b"\r\n")[0], head
        count += len(connections)
    for connection in connections:
        connection.close()
    return count


def large(target: Target, path: str, times: int) -> float:
    """GET a large blob one time after the other; return the megabytes."""
    buffer, received = bytearray(1 << 20), 0
    with socket.create_connection(("127.0.0.1", target.port)) as connection:
        for _ in range(times):
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            told, _, begun = head.partition(b"\r\n\r\n")
            length = int(re.findall(rb"(?i)content-length: (\d+)", told)[0])
            left = length - len(begun)
            while left:
                left -= connection.recv_into(buffer, min(left, len(buffer)))
            received += length
    return received / 1e6
