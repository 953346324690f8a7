"""What the figures depend on: the machine and the versions of everything that takes part."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

GIB = 1024**3

VERSIONS = {
    "podman": ("podman", "--version"),
    "buildah": ("buildah", "--version"),
    "skopeo": ("skopeo", "--version"),
    "docker-registry": ("docker-registry", "--version"),
}


def facts(directory: Path) -> dict[str, str]:
    """Describe the machine as a reader of the figures needs it; the benchmark writes into `directory`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    processor = f"{os.cpu_count()} x {_processor()}"
    return {
        "processor": f"{processor}, {memory:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.1f}",
        "kernel": f"{platform.system()} {platform.release()}, {_filesystem(directory)} at {directory}",
        "python": platform.python_version(),
        "podbridge": _podbridge(),
        **{program: _version(*command) for program, command in VERSIONS.items()},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(directory: Path) -> str:
    command = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _podbridge() -> str:
    try:
        return metadata.version("podbridge")
    except metadata.PackageNotFoundError:
        return "not installed"


def _version(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return next(word for word in words if word.lstrip("v")[:1].isdigit())
