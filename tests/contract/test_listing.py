"""What podman's service says of its store."""

import re
from pathlib import Path

import pytest

from bridge.errors import ImageUnknownError, PodmanError, UnreachableError
from bridge.plan import Image
from bridge.podman.client import Podman
from tests import versions
from tests.contract.backends import Backend

NOBODY = "a" * 64


async def find(podman: Podman, image_id: str) -> Image:
    """Return the image as the listing has it."""
    (image,) = [image for image in await podman.images() if image.id == image_id]
    return image


async def test_an_empty_store_lists_no_images(fresh: Backend) -> None:
    with fresh.service():
        async with Podman(fresh.socket) as podman:
            assert await podman.images() == ()


async def test_a_built_image_is_listed_with_its_id_its_full_name_and_a_digest(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("listed:1")
    image = await find(podman, image_id)
    assert image.names == ("localhost/listed:1",)
    assert image.digest is not None
    assert image.size > 0
    assert image.created > 0


async def test_an_image_has_every_name_that_it_was_given(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("localhost/names:1")
    backend.run("tag", image_id, "localhost/names:2", "reg.example.com:5000/org/names:3")
    assert set((await find(podman, image_id)).names) == {
        "localhost/names:1",
        "localhost/names:2",
        "reg.example.com:5000/org/names:3",
    }


async def test_names_are_listed_in_the_order_in_which_they_were_given_or_the_other_way(
    backend: Backend, podman: Podman
) -> None:
    image_id = backend.build("localhost/order:1")
    given = ["localhost/order:1", "localhost/order:0", "localhost/order:2"]
    for name in given[1:]:
        backend.run("tag", image_id, name)
    latest_first = versions.THE_LATEST_NAME_IS_FIRST.holds(backend.version)
    assert list((await find(podman, image_id)).names) == (given[::-1] if latest_first else given)


async def test_a_name_belongs_to_the_image_that_got_it_last(backend: Backend, podman: Podman) -> None:
    old, new = backend.build("localhost/moved:1", {"f": b"old"}), backend.build("localhost/moved:1", {"f": b"new"})
    assert (await find(podman, old)).names == ()
    assert (await find(podman, new)).names == ("localhost/moved:1",)


async def test_an_untagged_image_stays_without_a_name(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("localhost/untagged:1")
    backend.run("untag", image_id)
    assert (await find(podman, image_id)).names == ()


async def test_a_removed_image_is_not_listed(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("localhost/removed:1")
    backend.run("rmi", "localhost/removed:1")
    assert image_id not in [image.id for image in await podman.images()]


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("oci", "application/vnd.oci.image.manifest.v1+json"),
        ("docker", "application/vnd.docker.distribution.manifest.v2+json"),
    ],
)
async def test_inspect_tells_layers_format_and_digest(
    backend: Backend, podman: Podman, form: str, media_type: str
) -> None:
    image_id = backend.build(f"localhost/inspected-{form}:1", None, f"--format={form}")
    inspected = await podman.inspect(image_id)
    assert len(inspected.diff_ids) == 1
    assert inspected.manifest_type == media_type
    assert inspected.digest == (await find(podman, image_id)).digest


async def test_inspect_of_an_unknown_image_says_so(podman: Podman) -> None:
    with pytest.raises(ImageUnknownError, match="image not known"):
        await podman.inspect(NOBODY)


async def test_exists_tells_whether_an_image_is_there(backend: Backend, podman: Podman) -> None:
    assert await podman.exists(Image(backend.build("localhost/exists:1")))
    assert not await podman.exists(Image(NOBODY))


async def test_an_image_is_not_found_among_the_manifest_lists(backend: Backend, podman: Podman) -> None:
    with pytest.raises(PodmanError):
        await podman.exists(Image(backend.build("localhost/no-list:1"), is_list=True))
    assert not await podman.exists(Image(NOBODY, is_list=True))


async def test_info_names_the_store_that_the_command_works_on(backend: Backend, podman: Podman) -> None:
    backend.build("localhost/info:1")
    told = await podman.store()
    assert told.driver == "overlay"
    assert str(told.graph_root) == backend.run("info", "--format", "{{.Store.GraphRoot}}")
    assert told.images_directory.is_dir()


async def test_version_is_a_version(podman: Podman) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", await podman.version())


async def test_nobody_answers_on_a_socket_without_a_service(tmp_path: Path) -> None:
    async with Podman(tmp_path / "s") as podman:
        with pytest.raises(UnreachableError, match="does not answer"):
            await podman.images()
