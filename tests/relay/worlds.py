"""The real podman with podbridge before it: clients can speak to either, and to a plain registry."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.podman.service import listens
from tests.end_to_end.programs import eventually, run, scratch
from tests.end_to_end.registries import docker_registry
from tests.end_to_end.services import Client, Service
from tests.end_to_end.stores import Store

RUNTIME = next(filter(None, map(shutil.which, ("runc", "crun"))), "runc")
"""Runs containers; crun needs control groups that not every machine lets it have."""

CONTAINERS = f"""
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
pids_limit = 0
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
runtime = "{Path(RUNTIME).name}"
[engine.runtimes]
{Path(RUNTIME).name} = ["{RUNTIME}"]
"""
"""What lets containers run also where the machine is itself a container."""

SHELL = "localhost/shell:1"
"""An image with /bin/sh, /bin/cat and /bin/sleep, those of this machine."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as it came: the head, and the body's chunks, or the body as one."""

    head: str
    records: tuple[bytes, ...]

    @property
    def status(self) -> int:
        """The status."""
        return int(self.head.split()[1])

    @property
    def kind(self) -> str:
        """The value of `Content-Type`, empty where there is none."""
        lines = self.head.lower().split("\r\n")
        return next((line.partition(": ")[2] for line in lines if line.startswith("content-type: ")), "")

    @property
    def json(self) -> list[dict[str, object]]:
        """Every record, each one JSON object."""
        return [json.loads(record) for record in self.records]


def ask(path: Path, request: str, body: bytes = b"") -> Answer:
    """Send one request to a unix socket, and read until the answer ends."""
    lines = [f"{request} HTTP/1.1", "Host: d", "Connection: close", f"Content-Length: {len(body)}", "", ""]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall("\r\n".join(lines).encode() + body)
        with connection.makefile("rb") as file:
            head = b"".join(iter(file.readline, b"\r\n")).decode()
            if "transfer-encoding: chunked" not in head.lower():
                return Answer(head, (file.read(),))
            records = []
            while size := int(file.readline(), 16):
                records.append(file.read(size))
                assert file.readline() == b"\r\n"
            return Answer(head, tuple(records))


@dataclass(frozen=True, slots=True)
class World:
    """A store, podbridge with an api socket before it, and a plain registry to push to without podbridge."""

    service: Service
    plain: str

    @property
    def store(self) -> Store:
        """The store."""
        return self.service.store

    @property
    def own(self) -> str:
        """podbridge's registry, `HOST:PORT`."""
        return self.service.address

    @property
    def registry(self) -> Client:
        """A client of podbridge's registry."""
        return self.service.client

    @property
    def bridge(self) -> Path:
        """The api socket."""
        return self.service.directory / "api.sock"

    @property
    def direct(self) -> Path:
        """Podman's own socket."""
        return self.store.directory / "s"


@contextlib.contextmanager
def world(profile: str = "full", registry: Mapping[str, object] | None = None) -> Iterator[World]:
    """Run one while the block runs; `registry` are more settings of podbridge's registry."""
    with scratch() as directory, pytest.MonkeyPatch.context() as patch, plain_registry(directory) as plain:
        (directory / "containers.conf").write_text(CONTAINERS, encoding="utf-8")
        patch.setenv("CONTAINERS_CONF", str(directory / "containers.conf"))
        (directory / "registries.conf").write_text(
            f'[[registry]]\nlocation="{plain}"\ninsecure=true\n', encoding="utf-8"
        )
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(directory / "registries.conf"))
        store = Store(directory)
        settings = {
            "podman": {"command": store.command, "socket": f"unix://{directory / 's'}"},
            "api": {"socket": str(directory / "p" / "api.sock"), "profile": profile, "floor": "1.44"},
        }
        with podman(store, directory / "s"):
            service = Service(store, directory / "p")
            service.configure({**settings, "registry": {"listen": service.address, **(registry or {})}})
            with service:
                yield World(service, plain)


@contextlib.contextmanager
def podman(store: Store, path: Path) -> Iterator[None]:
    """Run podman's service on `path`."""
    process = subprocess.Popen(
        [*store.command, "system", "service", "--time=0", f"unix://{path}"], stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: listens(path))
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def plain_registry(directory: Path) -> Iterator[str]:
    """Run docker-registry, where it is installed; yield its address."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed; contrib/check unpacks it")
    with docker_registry(directory) as address:
        yield address


def shell(store: Store) -> None:
    """Make the image `SHELL`."""
    root = store.directory / "shell"
    for program in ("sh", "cat", "sleep"):
        path = shutil.which(program)
        assert path is not None
        libraries = [word for word in run("ldd", path).split() if word.startswith("/")]
        for source, target in ((path, f"/bin/{program}"), *((library, library) for library in libraries)):
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
    run("tar", "-C", root, "-cf", store.directory / "shell.tar", ".")
    store.podman("import", "--quiet", store.directory / "shell.tar", SHELL)


def environment(path: Path) -> dict[str, str]:
    """Return the environment in which clients find a socket."""
    url = f"unix://{path}"
    return {**os.environ, "DOCKER_HOST": url, "CONTAINER_HOST": url, "DOCKER_BUILDKIT": "0", "HOME": str(path.parent)}
