"""What `podman image save` writes, and what its exit code is worth."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from bridge.errors import ImageUnknownError
from bridge.oci import Descriptor, Digest, Manifest
from bridge.plan import Image
from bridge.podman import process, raw
from bridge.podman.client import Podman
from bridge.podman.save import Commands, Output
from tests.contract.backends import Backend
from tests.double.gates import eventually


async def save(backend: Backend, image_id: str, layout: Path) -> None:
    """Save as podbridge does."""
    scratch = layout.with_name(layout.name + "-scratch")
    scratch.mkdir()
    await Commands(backend.command).save(image_id, Output(layout, scratch), lambda: None)


def blob(layout: Path, digest: Digest) -> Path:
    """Where a layout has a blob."""
    return layout / "blobs" / digest.algorithm / digest.hex


def saved(layout: Path) -> tuple[Digest, Manifest]:
    """Return the one manifest of a layout."""
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    digest = Descriptor.from_json(entry).digest
    return digest, Manifest.parse(blob(layout, digest).read_bytes())


async def listed(podman: Podman, image_id: str) -> Image:
    """Return the image as the listing has it."""
    (image,) = [image for image in await podman.images() if image.id == image_id]
    return image


async def test_an_uncompressed_save_keeps_podmans_digest_and_image_id(
    backend: Backend, podman: Podman, tmp_path: Path
) -> None:
    image_id = backend.build("localhost/s-exact:1")
    await save(backend, image_id, tmp_path / "o")
    digest, manifest = saved(tmp_path / "o")
    assert digest == (await listed(podman, image_id)).digest
    assert manifest.config is not None
    assert manifest.config.digest.hex == image_id
    assert tuple(layer.digest for layer in manifest.layers) == (await podman.inspect(image_id)).diff_ids


async def test_everything_that_a_save_wrote_has_its_digest_and_size(backend: Backend, tmp_path: Path) -> None:
    await save(backend, backend.build("localhost/s-whole:1"), tmp_path / "o")
    for descriptor in saved(tmp_path / "o")[1].references:
        content = blob(tmp_path / "o", descriptor.digest).read_bytes()
        assert (Digest.of(content), len(content)) == (descriptor.digest, descriptor.size)
    assert not list((tmp_path / "o-scratch").iterdir())


async def test_a_layer_that_lies_there_is_not_read_again_whatever_it_holds(
    backend: Backend, podman: Podman, tmp_path: Path
) -> None:
    image_id = backend.build("localhost/s-reuse:1")
    (diff_id,) = (await podman.inspect(image_id)).diff_ids
    there = blob(tmp_path / "o", diff_id)
    there.parent.mkdir(parents=True)
    there.write_bytes(b"not the layer")
    status = there.stat()
    await save(backend, image_id, tmp_path / "o")
    assert there.read_bytes() == b"not the layer"
    assert (there.stat().st_ino, there.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


async def test_an_unknown_image_fails_with_125_and_podmans_words(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(ImageUnknownError, match=r"exit code 125: .*image not known"):
        await save(backend, "a" * 64, tmp_path / "o")


async def test_oci_dir_gives_a_docker_image_another_id_and_docker_dir_keeps_it(
    backend: Backend, podman: Podman, tmp_path: Path
) -> None:
    image_id = backend.build("localhost/s-docker:1", None, "--format=docker")
    await save(backend, image_id, tmp_path / "o")
    config = saved(tmp_path / "o")[1].config
    assert config is not None
    assert config.digest.hex != image_id
    await Commands(backend.command).save_docker(image_id, Output(tmp_path / "d", tmp_path), lambda: None)
    assert Digest.of((tmp_path / "d" / image_id).read_bytes()).hex == image_id
    assert Digest.of((tmp_path / "d" / "manifest.json").read_bytes()) == (await listed(podman, image_id)).digest


@pytest.mark.parametrize("form", ["oci", "docker"])
async def test_a_push_to_a_directory_has_every_layer_plain_under_its_hex(
    backend: Backend, podman: Podman, tmp_path: Path, form: str
) -> None:
    image_id = backend.build(f"localhost/s-push-{form}:1", None, f"--format={form}")
    (tmp_path / "scratch").mkdir()
    await Commands(backend.command).push(image_id, Output(tmp_path / "p", tmp_path / "scratch"), lambda: None)
    for name in [image_id, *(digest.hex for digest in (await podman.inspect(image_id)).diff_ids)]:
        assert Digest.of((tmp_path / "p" / name).read_bytes()).hex == name


@pytest.mark.parametrize("form", ["oci", "docker"])
async def test_skopeo_prints_the_stored_manifest_and_config(
    backend: Backend, podman: Podman, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend.double is not None:
        monkeypatch.setenv("PATH", f"{backend.double.root / 'bin'}:{os.environ['PATH']}")
    image = await listed(podman, backend.build(f"localhost/s-raw-{form}:1", None, f"--format={form}"))
    store = await podman.store()
    assert [Digest.of(content) for content in await raw.manifests(store, image)] == [image.digest]
    assert Digest.of(await raw.config(store, image.id)).hex == image.id
    with pytest.raises(ImageUnknownError):
        await raw.config(store, "a" * 64)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_save_that_is_ended_in_a_layer_has_no_index_whatever_its_exit_code(
    backend: Backend, tmp_path: Path, number: signal.Signals
) -> None:
    words = ("image", "save", "--quiet", "--format=oci-dir", "--uncompressed", f"--output={tmp_path / 'o'}")
    (tmp_path / "scratch").mkdir()
    with backend.slow_save() as image_id:
        environment = {"TMPDIR": str(tmp_path / "scratch")}
        running = await process.start([*backend.command, *words, image_id], environment)
        await eventually(lambda: any((tmp_path / "scratch").iterdir()), what="the spool of the layer")
        running.send_signal(number)
        await running.communicate()
    backend.run("rmi", image_id)
    assert running.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert not (tmp_path / "o" / "index.json").exists()


async def test_cancelling_a_save_leaves_no_process(backend: Backend, tmp_path: Path) -> None:
    with backend.slow_save() as image_id:
        saving = asyncio.create_task(save(backend, image_id, tmp_path / "o"))
        await eventually(lambda: (tmp_path / "o-scratch").exists() and any((tmp_path / "o-scratch").iterdir()))
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        mark = str(tmp_path / "o").encode()
        await eventually(lambda: not [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in _content(path)])
    backend.run("rmi", image_id)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
