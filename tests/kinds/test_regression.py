"""One layer pulled in two compressions: what is served is always whole and true, whatever podman remembers of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import eventually, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, digest, tar
from tests.kinds.workshop import Workshop

ORDERS = [("gzip", "zstd"), ("zstd", "gzip")]
PLAIN = [("gzip", "plain"), ("plain", "gzip"), ("zstd", "plain"), ("plain", "zstd")]
BETWEEN = ["kept", "deleted", "kept, its layer shared", "deleted, its layer shared"]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Workshop, Service]]:
    """An empty store with a service on it."""
    with scratch() as directory:
        workshop = Workshop(Store(directory), directory / "s", "")
        workshop.directory.mkdir()
        with Service(workshop.store, directory / "p") as service:
            yield workshop, service


def squeezed(workshop: Workshop, name: str, compression: str, layers: list[Layer]) -> str:
    """Return a `dir:` of an image in which every layer is compressed."""
    plain = workshop.directory / f"{name}-plain"
    if not plain.exists():
        layouts.write(plain, layers)
    there = f"dir:{workshop.directory / name}-{compression}"
    return workshop.convert(plain, there, "--dest-compress", "--dest-compress-format", compression)


def manifest_digest(source: str) -> str:
    return digest((Path(source.removeprefix("dir:")) / "manifest.json").read_bytes())


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_layer_pulled_in_two_compressions_is_served_whole(
    running: tuple[Workshop, Service], order: tuple[str, str], between: str
) -> None:
    workshop, service = running
    name = "-".join([*order, *between.replace(",", "").split()])
    layers = [Layer(tar(f"{name}-{number}")) for number in range(2)]
    first, second = (squeezed(workshop, name, compression, layers) for compression in order)
    if "shared" in between:
        other = squeezed(workshop, f"{name}-other", order[0], [layers[0], Layer(tar(f"{name}-other"))])
        workshop.pull(other, f"{name}-other")
    image = workshop.store.podman("pull", "--quiet", first)
    if "deleted" in between:
        workshop.store.podman("rmi", image)
    assert workshop.pull(second, name) == image
    eventually(lambda: service.client.digest(name, "1"))
    served = seen.image(service.client, name, "1")
    assert served.layers == tuple(layer.content for layer in layers)
    assert served.id == image
    _is_pulled_whole(f"{service.address}/{name}:1", served)
    view = seen.view(service, f"{name}:1")
    pulled = {manifest_digest(second)} if "deleted" in between else {manifest_digest(first), manifest_digest(second)}
    assert set(view["origins"]) == pulled, "an operator finds it by any digest that it was pulled by"
    assert view["fidelity"] == "rebuilt"


def _is_pulled_whole(there: str, served: seen.Image) -> None:
    with scratch() as directory:
        empty = Store(directory)
        assert seen.pull(empty, there) == served.id
        assert empty.digest(there) == served.digest
    with scratch() as directory:
        copied = seen.copy(Store(directory), there)
        assert seen.raw(copied) == served.digest
        assert seen.raw(copied, "--config") == f"sha256:{served.id}"


@pytest.mark.parametrize("order", PLAIN, ids="-".join)
def test_an_image_that_was_pulled_both_compressed_and_plain_is_served_whole(
    running: tuple[Workshop, Service], order: tuple[str, str]
) -> None:
    """Its plain manifest is true to the store's bytes, so it is served as it is."""
    workshop, service = running
    name = "-then-".join(order)
    layers = [Layer(tar(name))]
    layouts.write(workshop.directory / f"{name}-plain", layers)
    for form in order:
        plain = f"dir:{workshop.directory / name}-plain"
        workshop.pull(plain if form == "plain" else squeezed(workshop, name, form, layers), name)
    expected = manifest_digest(f"dir:{workshop.directory / name}-plain")
    eventually(lambda: service.client.shows(name, "1", expected))
    assert seen.image(service.client, name, "1").digest == expected
    eventually(lambda: expected in seen.view(service, f"{name}:1").get("origins", ()))


def test_the_tree_is_whole_after_all_of_it(running: tuple[Workshop, Service]) -> None:
    assert running[1].tell("verify") == "the tree is whole"
