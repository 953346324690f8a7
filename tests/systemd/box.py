"""A throw-away machine: a real systemd as PID 1 over an overlay of this one's files, with podbridge on it.

It has processes, mounts, a loopback and a podman store of its own, and is gone with all of that when the
test ends. It boots in under a second. Needs root, and a kernel with overlay and cgroup2.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.end_to_end.programs import eventually, scratch
from tests.systemd.visitors import Answer, Visitors

REPOSITORY = Path(__file__).parents[2]
SERVICE = "podbridge.service"
UNITS = REPOSITORY / "contrib" / "systemd"

_CGROUPS = Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")
_PLACES = "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd"
_ENVIRONMENT = "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=box"
_BOOT = 60.0
"""Seconds; it takes about one."""

_PODBRIDGE = f"""#!/bin/sh
export PYTHONPATH=/opt/podbridge:/opt/podbridge/lib LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]} -m bridge "$@"
"""

Done = subprocess.CompletedProcess[str]


class Box:
    """One machine. What is written on it, at any path, is gone with it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.visitors = Visitors(pid)

    def is_up(self) -> bool:
        """Say whether it has booted."""
        return self.ask("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def ask(self, *words: str | Path, stdin: str | None = None, timeout: float = 120) -> Done:
        """Run a program on the machine that may fail."""
        command = "nsenter", "--target", str(self._pid), *_PLACES, "env", "-i", *_ENVIRONMENT, *words
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, input=stdin)

    def run(self, *words: str | Path, stdin: str | None = None, timeout: float = 120) -> str:
        """Run a program that must succeed, and return what it printed without the white space around it."""
        done = self.ask(*words, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file on the machine."""
        self.run("install", f"--mode={mode:o}", "-D", "/dev/stdin", path, stdin=content)

    def install(self, places: Mapping[str, str]) -> None:
        """Put files of contrib/systemd, by their names there, to their places, and have systemd read them."""
        for name, place in places.items():
            self.write(place, (UNITS / name).read_text(encoding="utf-8"))
        self.run("systemd-sysusers")
        self.run("systemd-tmpfiles", "--create")
        self.run("systemctl", "daemon-reload")

    def drop_in(self, unit: str, content: str) -> None:
        """Change a unit, as `systemctl edit` does."""
        self.write(f"/etc/systemd/system/{unit}.d/test.conf", content)
        self.run("systemctl", "daemon-reload")

    def unit(self, key: str, name: str = SERVICE) -> str:
        """Return what systemd knows of a unit: one property."""
        return self.run("systemctl", "show", "--value", f"--property={key}", name)

    def journal(self, unit: str = SERVICE) -> str:
        """Return what a unit has logged."""
        return self.ask("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def build(self, name: str, options: Sequence[str] = (), content: str = "") -> str:
        """Build an image of one layer, with a small file or one of that content, in root's store; return its digest."""
        self.write("/build/file", content or name)
        self.write("/build/Containerfile", "FROM scratch\nCOPY file /file\n")
        self.run("podman", "build", "--quiet", "--isolation=chroot", *options, "--tag", name, "/build")
        return self.run("podman", "image", "inspect", "--format", "{{.Digest}}", name)

    def build_list(self, name: str) -> None:
        """Make a manifest list of one image."""
        self.build(f"{name}-member")
        self.run("podman", "manifest", "create", name, f"containers-storage:{name}-member")

    def shows_list(self, repository: str) -> bool:
        """Say whether `repository:1` is served as an index."""
        kind = self.get(f"/v2/{repository}/manifests/1").headers.get("content-type", "")
        return "index" in kind or "manifest.list" in kind

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask the registry, as a client on the machine."""
        return self.visitors.get(path, headers=headers)

    def shows(self, repository: str, digest: str) -> bool:
        """Say whether `repository:1` is served with that digest."""
        return self.get(f"/v2/{repository}/manifests/1").headers.get("docker-content-digest") == digest


@contextlib.contextmanager
def booted(lower: Path = Path("/")) -> Iterator[Box]:
    """Have a machine over the files of `lower`, with podbridge on it, while the block runs."""
    with bare(lower, _installed()) as box:
        box.write("/usr/bin/podbridge", _PODBRIDGE, 0o755)
        yield box


@contextlib.contextmanager
def bare(lower: Path, seen: Mapping[Path, str]) -> Iterator[Box]:
    """Have the machine only, which sees these directories at their places, read-only."""
    with scratch() as directory, _cgroup(directory.name) as cgroup, (directory / "log").open("wb") as log:
        (directory / "m").mkdir()
        places = (f"{directory}={place}" for directory, place in seen.items())
        enter = shlex.join(map(str, [Path(__file__).with_name("enter.sh"), directory / "m", lower, *places]))
        namespaces = "--pid --fork --kill-child --mount --propagation private --uts --ipc --net --cgroup"
        start = f"exec setpriv --pdeathsig KILL unshare {namespaces} {enter}"
        command = f"echo $$ >{cgroup}/cgroup.procs && {start}"
        process = subprocess.Popen(("sh", "-c", command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            box = Box(eventually(lambda: _first(process.pid), _BOOT))
            eventually(box.is_up, _BOOT)
            yield box
            sys.stderr.write(box.journal("podbridge*"))
        finally:
            process.kill()
            process.wait()
            sys.stderr.write((directory / "log").read_text(encoding="utf-8", errors="replace"))


def _installed() -> Mapping[Path, str]:
    """Say where podbridge, its libraries and their Python are on the machine: where every user may read them."""
    return {
        Path(sys.base_prefix): "/opt/python",
        Path(sysconfig.get_path("purelib")): "/opt/podbridge/lib",
        REPOSITORY / "bridge": "/opt/podbridge/bridge",
    }


def _first(unshare: int) -> int:
    """Return the process that is systemd; 0 while there is none yet."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text(encoding="utf-8").split()
    named = [int(child) for child in children if Path(f"/proc/{child}/comm").read_text(encoding="utf-8") == "systemd\n"]
    return named[0] if named else 0


@contextlib.contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    root = next(place for place in _CGROUPS if (place / "cgroup.procs").exists())
    cgroup = root / name
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        eventually(lambda: not (cgroup / "cgroup.procs").read_bytes())
        for path, _, _ in sorted(os.walk(cgroup), reverse=True):
            eventually(partial(_removed, Path(path)))


def _removed(cgroup: Path) -> bool:
    with contextlib.suppress(OSError):
        cgroup.rmdir()
    return not cgroup.exists()
