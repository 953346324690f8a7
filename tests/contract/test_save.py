"""What `podman image save` writes, and what its exit code is worth."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge import programs
from bridge.errors import ImageUnknownError
from bridge.oci import Descriptor, Digest, Manifest
from bridge.plan import Image
from bridge.podman import process, raw
from bridge.podman.client import Podman
from bridge.podman.save import Commands, Output
from tests import versions
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


@contextlib.asynccontextmanager
async def spooling(backend: Backend, place: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Have a save that is in the middle of a layer, with its scratch directory in `place`; say what its spool has."""
    words = ("image", "save", "--quiet", "--format=oci-dir", "--uncompressed", f"--output={place / 'o'}")
    scratch = place / "scratch"
    scratch.mkdir()

    with backend.slow_save() as image_id:
        running = await process.start([*backend.command, *words, image_id], {"TMPDIR": str(scratch)})
        try:
            spool = ""

            def look() -> str:
                nonlocal spool
                spool = "a name" if any(scratch.iterdir()) else "no name" if programs.spooled(running.pid) else ""
                return spool

            await eventually(look, what="the spool of the layer")
            yield running, spool
        finally:
            await process.stop(running)
    backend.run("rmi", image_id)


async def test_a_layer_is_spooled_into_tmpdir_whether_its_spool_has_a_name_or_none(
    backend: Backend, tmp_path: Path
) -> None:
    async with spooling(backend, tmp_path) as (_, found):
        assert found == ("no name" if versions.A_SPOOL_HAS_NO_NAME.holds(backend.version) else "a name")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_save_that_is_ended_in_a_layer_has_no_index_whatever_its_exit_code(
    backend: Backend, tmp_path: Path, number: signal.Signals
) -> None:
    async with spooling(backend, tmp_path) as (running, _):
        running.send_signal(number)
        await running.communicate()
    fails = number == signal.SIGKILL or versions.A_TERMINATED_SAVE_FAILS.holds(backend.version)
    assert (running.returncode != 0) is fails
    assert not (tmp_path / "o" / "index.json").exists()


async def test_cancelling_a_save_leaves_no_process(backend: Backend, tmp_path: Path) -> None:
    with backend.slow_save() as image_id:
        saving = asyncio.create_task(save(backend, image_id, tmp_path / "o"))
        spool = tmp_path / "o-scratch"
        await eventually(lambda: any(spool.glob("*")) or any(map(programs.spooled, _saves(tmp_path))))
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        await eventually(lambda: not _saves(tmp_path))
    backend.run("rmi", image_id)


def _saves(place: Path) -> list[int]:
    """Return the processes that write into `place`."""
    mark = str(place / "o").encode()
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if mark in _content(path)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
