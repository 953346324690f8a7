"""A damaged image fails podman's whole listing. The sound ones are listed all the same, the damaged one is named."""

from pathlib import Path

import pytest

from bridge.errors import PodmanError
from bridge.podman.client import Podman
from tests import versions
from tests.contract.backends import Backend
from tests.end_to_end.programs import run
from tests.kinds import layouts
from tests.kinds.layouts import Layer, tar

PARTS = ("manifest", "config", "layer")


async def names(podman: Podman) -> set[str]:
    """Return every name that is listed."""
    return {name for image in (await podman.listing()).images for name in image.names}


def is_told(backend: Backend, part: str) -> bool:
    """Return True if a listing says something of an image that lacks this part."""
    return part != "layer" or not versions.A_LISTING_PASSES_OVER_A_LOST_LAYER.holds(backend.version)


@pytest.mark.parametrize("part", PARTS)
async def test_the_sound_images_are_listed_and_rmi_of_the_damaged_one_cures_it(fresh: Backend, part: str) -> None:
    with fresh.service():
        fresh.build("localhost/good:1")
        bad = fresh.build("localhost/bad:1")
        fresh.lose(bad, part)
        async with Podman(fresh.socket) as podman:
            if is_told(fresh, part):
                with pytest.raises(PodmanError, match=bad):
                    await podman.images()
            listing = await podman.listing()
            assert [image.names for image in listing.images] == [("localhost/good:1",)]
            assert [one.image_id for one in listing.damage] == ([bad] if is_told(fresh, part) else [])
            damage = listing.damage[0] if listing.damage else await podman.trouble(bad, bad)
            assert damage is not None
            assert damage.image_id == bad
            assert f"podman rmi -f {bad}" in str(damage)
            fresh.run("rmi", "-f", bad)
            assert (await podman.listing()).damage == ()
            assert await names(podman) == {"localhost/good:1"}


@pytest.mark.parametrize("second", PARTS)
async def test_two_damaged_images_are_both_named(fresh: Backend, second: str) -> None:
    with fresh.service():
        fresh.build("localhost/good:1")
        lost = {fresh.build("localhost/bad:1"): "manifest", fresh.build("localhost/bad:2"): second}
        for image_id, part in lost.items():
            fresh.lose(image_id, part)
        async with Podman(fresh.socket) as podman:
            listing = await podman.listing()
    assert [image.names for image in listing.images] == [("localhost/good:1",)]
    assert {one.image_id for one in listing.damage} == {bad for bad, part in lost.items() if is_told(fresh, part)}


@pytest.mark.parametrize(
    "parts", [("config", "config"), ("config", "config", "manifest"), ("layer", "config", "config", "config")], ids=str
)
async def test_several_images_without_a_config_hide_none_that_was_made_between_them(
    fresh: Backend, parts: tuple[str, ...]
) -> None:
    with fresh.service():
        fresh.build("localhost/good:first")
        lost = set()
        for number, part in enumerate(parts):
            bad = fresh.build(f"localhost/bad:{number}")
            fresh.build(f"localhost/good:{number}")
            fresh.lose(bad, part)
            lost |= {bad} if is_told(fresh, part) else set()
        async with Podman(fresh.socket) as podman:
            listing = await podman.listing()
            images = [image.names for image in listing.images]
    assert sorted(images) == sorted((f"localhost/good:{tag}",) for tag in ("first", *range(len(parts))))
    assert {one.image_id for one in listing.damage} == lost


async def test_images_of_the_very_same_time_as_a_damaged_one_are_listed(fresh: Backend) -> None:
    with fresh.service():
        for name in ("good:1", "good:2"):
            fresh.build(f"localhost/{name}", None, "--timestamp=1000000000")
        lost = {
            fresh.build("localhost/bad:1", None, "--timestamp=1000000000"): "config",
            fresh.build("localhost/bad:2"): "config",
        }
        for image_id, part in lost.items():
            fresh.lose(image_id, part)
        async with Podman(fresh.socket) as podman:
            listing = await podman.listing()
    assert {name for image in listing.images for name in image.names} == {"localhost/good:1", "localhost/good:2"}
    assert {one.image_id for one in listing.damage} == set(lost)


async def test_an_image_without_names_that_is_damaged_is_told_if_it_is_asked_for(fresh: Backend) -> None:
    with fresh.service():
        good, bad = fresh.build("localhost/good:1"), fresh.build()
        fresh.lose(bad, "manifest")
        async with Podman(fresh.socket) as podman:
            assert await names(podman) == {"localhost/good:1"}
            damage = await podman.trouble(bad)
            assert damage is not None
            assert damage.image_id == bad
            for sound in (good, "localhost/good:1", "localhost/none:1", "a" * 64):
                assert await podman.trouble(sound) is None


async def test_a_name_of_a_damaged_image_is_told_too(fresh: Backend) -> None:
    with fresh.service():
        bad = fresh.build("localhost/bad:1")
        fresh.lose(bad, "manifest")
        async with Podman(fresh.socket) as podman:
            damage = await podman.trouble("localhost/bad:1")
    assert damage is not None
    assert damage.image_id == bad


def annotated(backend: Backend, text: str, directory: Path) -> str:
    """Store an image of one config whose manifest has the text as an annotation; return its ID."""
    if not versions.A_BUILD_TELLS_ITS_ANNOTATIONS.holds(backend.version):
        return backend.build("localhost/two:1", None, "--timestamp=0", f"--annotation=k={text}")
    source = directory / text
    if not source.exists():
        layouts.write(source, [Layer(tar("two"))], annotations={"k": text})
    run("skopeo", "copy", "--quiet", f"dir:{source}", backend.place("localhost/two:1"))
    return backend.run("images", "--quiet", "--no-trunc", "localhost/two:1").removeprefix("sha256:")


async def test_a_list_beside_a_damaged_image_has_the_current_form_of_each(fresh: Backend, tmp_path: Path) -> None:
    """The digest of an image is that of the first manifest that was stored; the current one shows in its form."""
    with fresh.service():
        first = annotated(fresh, "A", tmp_path)
        async with Podman(fresh.socket) as podman:
            forms = [(await podman.inspect(first)).form]
            for text in ("B", "A"):
                again = annotated(fresh, text, tmp_path)
                assert again == first
                forms.append((await podman.inspect(first)).form)
            (image,) = await podman.images()
    assert forms[0] == forms[2] != forms[1]
    assert len(image.digests) == 2
