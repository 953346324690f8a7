"""Real clients pull encodings from both servers, verify them, and end with the builder's digest."""

import contextlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.oci import OCI_CONFIG, Digest
from bridge.tree.encodings import encode
from tests.registry.test_clients import World, _containerd, daemon, needs, needs_root, run, store
from tests.registry.trees import Shelf, manifest
from tests.registry.webservers import SERVERS, metered, served


@contextlib.asynccontextmanager
async def world(kind: str, root: Path) -> AsyncIterator[World]:
    """Give an image of one layer that shrinks to a third, and check that the wire saw no more than that of it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 4_000_000
        tar.addfile(entry, io.BytesIO(os.urandom(1_000_000) + bytes(3_000_000)))
    layer = content.getvalue()
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]}}  # fmt: skip
    shelf = Shelf(root / "tree")
    described = shelf.blob(json.dumps(config).encode(), OCI_CONFIG)
    digest = str(shelf.publish("own:1", manifest(described, [shelf.blob(layer)])).digest)
    encode(shelf.root, 10**9)
    with tempfile.TemporaryDirectory(prefix="pb") as short:
        async with served(kind, shelf.root) as address, metered(address) as meter:
            yield World(meter.address, {"own": digest}, Path(short))
            assert 1_000_000 < meter.received < len(layer) / 2


@needs("podman")
@needs_root
@pytest.mark.parametrize("kind", SERVERS)
async def test_podman_pulls_the_encoding_and_shows_the_builders_digest(kind: str, tmp_path: Path) -> None:
    async with world(kind, tmp_path) as it:
        name = f"{it.address}/own:1"
        await run("podman", *store(it), "pull", "-q", "--tls-verify=false", name)
        said = await run("podman", *store(it), "image", "inspect", "--format", "{{.Digest}}", name)
        assert said.strip() == it.digests["own"]


@needs("skopeo")
@pytest.mark.parametrize("kind", SERVERS)
async def test_skopeo_copies_the_encoding_and_keeps_the_digest(kind: str, tmp_path: Path) -> None:
    async with world(kind, tmp_path) as it:
        target = it.directory / "copy"
        await run(
            "skopeo",
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            f"docker://{it.address}/own:1",
            f"dir:{target}",
        )
        assert str(Digest.of((target / "manifest.json").read_bytes())) == it.digests["own"]


@needs("containerd")
@needs("ctr")
@needs_root
@pytest.mark.parametrize("kind", SERVERS)
async def test_containerd_pulls_the_encoding_and_lists_the_digest(kind: str, tmp_path: Path) -> None:
    async with world(kind, tmp_path) as it, _containerd(it) as ctr:
        await run(*ctr, "images", "pull", "--snapshotter", "native", "--plain-http", f"{it.address}/own:1")
        assert it.digests["own"] in await run(*ctr, "images", "ls")


@needs("dockerd")
@needs("containerd")
@needs_root
@pytest.mark.parametrize("kind", SERVERS)
async def test_docker_engine_pulls_the_encoding_and_says_the_digest(kind: str, tmp_path: Path) -> None:
    async with world(kind, tmp_path) as it, _containerd(it):
        root, socket = it.directory, it.directory / "d.sock"
        async with daemon(
            root / "dockerd.log", socket, "dockerd", "--containerd", root / "c.sock", "--data-root", root / "d-root",
            "--exec-root", root / "d-exec", "--pidfile", root / "d.pid", "--host", f"unix://{socket}",
            "--storage-driver", "vfs", "--iptables=false", "--ip6tables=false", "--bridge=none",
        ):  # fmt: skip
            said = await run("docker", "--host", f"unix://{socket}", "pull", f"{it.address}/own:1")
            assert it.digests["own"] in said
