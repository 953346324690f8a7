"""Real clients, set up by the files of contrib/containers, against the registry: pulls, mirrors, refused pushes."""

import asyncio
import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from bridge.oci import OCI_CONFIG
from tests.double.gates import DEADLINE
from tests.registry.trees import Shelf, manifest
from tests.registry.wires import served, until

CONTRIB = Path(__file__).parents[2] / "contrib" / "containers"
NAMES = ("own", "quay.io/org/app", "docker.io/library/hello")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this client runs as root only")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def publish_runnable(shelf: Shelf, reference: str) -> str:
    """Publish an image that a client can store, and return its digest."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(reference.replace("/", "_")))
    layer = content.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    described = shelf.blob(json.dumps(config).encode(), OCI_CONFIG)
    return str(shelf.publish(reference, manifest(described, [shelf.blob(layer)])).digest)


@dataclass(frozen=True, slots=True)
class World:
    """A registry at `address`, the digest of every name in it, and a directory for the client's own files."""

    address: str
    digests: dict[str, str]
    directory: Path

    def config(self, file: str) -> Path:
        """Return a client's configuration for this registry, as `podbridge config clients` makes it."""
        command = [sys.executable, "-m", "bridge", "config", "clients", file, "--address", self.address]
        path = self.directory / file
        path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
        return path

    def as_asked(self) -> dict[str, str]:
        """Return every name as a user of the configured client spells it, with the digest to find there."""
        return {(name if "." in name else f"{self.address}/{name}"): self.digests[name] for name in NAMES}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    shelf = Shelf(tmp_path / "tree")
    digests = {name: publish_runnable(shelf, f"{name}:1") for name in NAMES}
    # podman takes no runroot of more than 50 characters, and a unix socket none of more than 107
    with tempfile.TemporaryDirectory(prefix="pb") as short:
        async with served(shelf.root) as address:
            yield World(address, digests, Path(short))


async def run(*command: str | Path, ok: bool = True, **environ: str) -> str:
    """Run a program and return what it says; fail where it fails, or where it should and does not."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environ},
    )
    said = (await asyncio.wait_for(process.communicate(), 2 * DEADLINE))[0].decode()
    assert (process.returncode == 0) is ok, said
    return said


@contextlib.asynccontextmanager
async def daemon(log: Path, socket: Path, *command: str | Path) -> AsyncIterator[None]:
    """Run a daemon until the block ends; it is up when its socket is there."""
    with log.open("wb") as output, _turn(alone=any("dockerd" in str(word) for word in command)):
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            await until(lambda: socket.exists() or process.returncode is not None)
            assert process.returncode is None, log.read_text()
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait_for(process.wait(), DEADLINE)


@contextlib.contextmanager
def _turn(*, alone: bool) -> Iterator[None]:
    """Wait until no other process of the tests runs a Docker Engine: two on one machine are in each other's way."""
    with (Path(tempfile.gettempdir()) / "podbridge-tests-dockerd").open("w") as lock:
        if alone:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_contrib_holds_the_templates_themselves_for_the_default_address() -> None:
    for file in ("registries.conf", "hosts.toml", "registries.yaml", "daemon.json"):
        command = [sys.executable, "-m", "bridge", "config", "clients", file, "--address", "127.0.0.1:5000"]
        assert subprocess.run(command, check=True, capture_output=True).stdout == (CONTRIB / file).read_bytes()


def test_every_file_is_of_its_format() -> None:
    assert len(tomllib.loads((CONTRIB / "registries.conf").read_text())["registry"]) == 3
    assert "http://127.0.0.1:5000" in tomllib.loads((CONTRIB / "hosts.toml").read_text())["host"]
    mirrors = yaml.safe_load((CONTRIB / "registries.yaml").read_text())["mirrors"]
    assert {tuple(mirror["endpoint"]) for mirror in mirrors.values()} == {("http://127.0.0.1:5000",)}
    assert json.loads((CONTRIB / "daemon.json").read_text())["registry-mirrors"] == ["http://127.0.0.1:5000"]


def store(world: World) -> tuple[str | Path, ...]:
    root = world.directory
    return "--root", root / "store", "--runroot", root / "run", "--storage-driver", "vfs"


@needs("podman")
@needs_root
async def test_podman_pulls_directly_and_through_the_mirror(world: World) -> None:
    config = str(world.config("registries.conf"))
    for name, digest in world.as_asked().items():
        await run("podman", *store(world), "pull", "-q", f"{name}:1", CONTAINERS_REGISTRIES_CONF=config)
        said = await run("podman", *store(world), "image", "inspect", "--format", "{{.Digest}}", f"{name}:1")
        assert said.strip() == digest


@needs("podman")
@needs_root
async def test_podman_push_tells_its_user_what_to_do_instead(world: World) -> None:
    config = str(world.config("registries.conf"))
    name = f"{world.address}/own:1"
    await run("podman", *store(world), "pull", "-q", name, CONTAINERS_REGISTRIES_CONF=config)
    for target in (f"{world.address}/own:2", f"{world.address}/new:1"):
        said = await run("podman", *store(world), "push", name, target, ok=False, CONTAINERS_REGISTRIES_CONF=config)
        assert "podbridge publish" in said


@needs("skopeo")
async def test_skopeo_copies_out_by_mirror_and_tells_its_user_of_the_way_in(world: World) -> None:
    skopeo = ("skopeo", "--insecure-policy", "--registries-conf", world.config("registries.conf"))
    for number, (name, digest) in enumerate(world.as_asked().items()):
        target = world.directory / str(number)
        await run(*skopeo, "copy", f"docker://{name}:1", f"dir:{target}")
        assert f"sha256:{hashlib.sha256((target / 'manifest.json').read_bytes()).hexdigest()}" == digest
        # without --no-tags skopeo asks the origin, never a mirror, for the tags
        assert json.loads(await run(*skopeo, "inspect", "--no-tags", f"docker://{name}:1"))["Digest"] == digest
    source = f"dir:{world.directory / '0'}"
    said = await run(*skopeo, "copy", source, f"docker://{world.address}/new:1", ok=False)
    assert "podbridge publish" in said


@needs("buildah")
@needs_root
async def test_buildah_pulls_directly_and_through_the_mirror(world: World) -> None:
    config = world.config("registries.conf")
    for name in world.as_asked():
        await run("buildah", *store(world), "--registries-conf", config, "pull", "-q", f"{name}:1")


@needs("containerd")
@needs("ctr")
@needs_root
async def test_containerd_pulls_directly_and_through_the_mirror(world: World) -> None:
    async with _containerd(world) as ctr:
        hosts = world.directory / "certs.d"
        (hosts / "_default").mkdir(parents=True)
        world.config("hosts.toml").rename(hosts / "_default" / "hosts.toml")
        for name, digest in world.as_asked().items():
            pull = ("images", "pull", "--snapshotter", "native", "--hosts-dir", hosts)
            await run(*ctr, *pull, f"{name}:1")
            listed = await run(*ctr, "images", "ls", f"name=={name}:1")
            assert digest in listed


@contextlib.asynccontextmanager
async def _containerd(world: World) -> AsyncIterator[tuple[str | Path, ...]]:
    root = world.directory
    config, socket = root / "containerd.toml", root / "c.sock"
    config.write_text(
        f'version = 2\nroot = "{root}/c-root"\nstate = "{root}/c-state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{socket}"\n'
    )
    async with daemon(root / "containerd.log", socket, "containerd", "--config", config):
        yield "ctr", "--address", socket


@needs("dockerd")
@needs("containerd")
@needs_root
async def test_docker_engine_pulls_directly_and_through_the_mirror(world: World) -> None:
    root = world.directory
    socket = root / "d.sock"
    async with (
        _containerd(world),
        daemon(
            root / "dockerd.log", socket, "dockerd", "--config-file", world.config("daemon.json"),
            "--containerd", root / "c.sock", "--data-root", root / "d-root", "--exec-root", root / "d-exec",
            "--pidfile", root / "d.pid", "--host", f"unix://{socket}", "--storage-driver", "vfs",
            "--iptables=false", "--ip6tables=false", "--bridge=none",
        ),
    ):  # fmt: skip
        docker = ("docker", "--host", f"unix://{socket}")
        for name, digest in ((f"{world.address}/own", world.digests["own"]), ("hello", world.digests[NAMES[2]])):
            assert digest in await run(*docker, "pull", f"{name}:1")
        said = await run(*docker, "push", f"{world.address}/own:1", ok=False)
        assert "podbridge publish" in said
