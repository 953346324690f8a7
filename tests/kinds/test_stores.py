"""Every image that podman lists of an additional, read-only store is published, whatever made it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.programs import eventually, run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, tar
from tests.kinds.workshop import make_list

FIDELITIES = {"oci": "exact", "docker": "exact", "loaded": "corrected", "squeezed": "rebuilt", "list": "exact"}


@dataclass(frozen=True, slots=True)
class Stacked(Store):
    """A store with others below it, which `words` of every podman command name."""

    words: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The words that begin every podman command on this store."""
        return ["podman", *self.words]


def fill(store: Store, prefix: str = "") -> None:
    """Put an image of each kind into a store, and a list of one of them."""
    for name, form in (("oci", "oci"), ("docker", "docker"), ("loaded", "oci")):
        context = store.context(prefix + name)
        store.podman("build", "--quiet", "--format", form, "--tag", f"localhost/{prefix}{name}:1", context)
    archive = store.directory / "loaded.tar"
    loaded = f"localhost/{prefix}loaded:1"
    store.podman("save", "--quiet", "--output", archive, loaded)
    store.podman("rmi", loaded)
    store.podman("load", "--quiet", "--input", archive)
    layouts.write(store.directory / "squeezed", [Layer(tar(f"{prefix}squeezed")).gzipped()])
    run("skopeo", "copy", "--quiet", f"dir:{store.directory / 'squeezed'}", named(store, f"{prefix}squeezed"))
    make_list(store, f"localhost/{prefix}list:1", f"containers-storage:localhost/{prefix}oci:1")


def named(store: Store, name: str) -> str:
    return store.skopeo_name(f"localhost/{name}:1")


def published(service: Service, expected: dict[str, str]) -> None:
    """See that everything is published with that fidelity, whole, and as podman shows it."""
    wanted = {f"{name}:1": fidelity for name, fidelity in expected.items()}
    eventually(lambda: wanted.items() <= {one["reference"]: one.get("fidelity") for one in seen.views(service)}.items())
    for name in expected:
        if not name.endswith("list"):
            image = service.store.podman("image", "inspect", "--format", "{{.Id}}", f"localhost/{name}:1")
            assert seen.image(service.client, name, "1").id == image
    assert service.tell("verify") == "the tree is whole"


@pytest.fixture
def below() -> Iterator[Store]:
    """A store that others can be put on, filled."""
    with scratch() as directory:
        store = Store(directory)
        fill(store)
        yield store


def options(*stores: str) -> tuple[str, ...]:
    return tuple(word for store in stores for word in ("--storage-opt", store))


@pytest.mark.parametrize("key", ["additionalimagestore", "overlay.imagestore"])
def test_a_store_that_an_option_names(below: Store, directory: Path, key: str) -> None:
    own = Stacked(directory, (*Store(directory).command[1:], *options(f"{key}={below.directory / 'r'}")))
    with Service(own, directory / "p") as service:
        published(service, FIDELITIES)
        (directory / "context").mkdir()
        (directory / "context" / "file").write_text("on top")
        (directory / "context" / "Containerfile").write_text("FROM localhost/oci:1\nCOPY file /on-top\n")
        own.podman("build", "--quiet", "--tag", "localhost/on-top:1", directory / "context")
        published(service, FIDELITIES | {"on-top": "exact"})
        with scratch() as empty:
            assert seen.pull(Store(empty), f"{service.address}/on-top:1") == own.image_id("localhost/on-top:1")


@pytest.mark.parametrize("mountopt", ["nodev", "nodev,metacopy=on"])
def test_a_store_that_storage_conf_names(
    below: Store, directory: Path, mountopt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = configured(directory, [below], mountopt, monkeypatch)
    with Service(own, directory / "p") as service:
        published(service, FIDELITIES)


def configured(directory: Path, below: list[Store], mountopt: str, monkeypatch: pytest.MonkeyPatch) -> Stacked:
    """Return a store that a storage.conf describes, with others below it."""
    stores = json.dumps([str(store.directory / "r") for store in below])
    (directory / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/r"\nrunroot = "{directory}/rr"\n'
        f'[storage.options]\nadditionalimagestores = {stores}\n[storage.options.overlay]\nmountopt = "{mountopt}"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(directory / "storage.conf"))
    return Stacked(directory, ("--tmpdir", str(directory / "t")))


def test_several_stores_of_which_podman_4_tells_the_last_only(
    below: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What skopeo does not see comes from podman itself."""
    with scratch() as other:
        second = Store(other)
        fill(second, "second-")
        own = configured(directory, [below, second], "nodev", monkeypatch)
        with Service(own, directory / "p") as service:
            published(service, {"oci": "exact", "docker": "exact", "list": "exact"})
            published(service, {f"second-{name}": fidelity for name, fidelity in FIDELITIES.items()})
            eventually(lambda: service.client.digest("loaded", "1") and service.client.digest("squeezed", "1"))
            for name in ("loaded", "squeezed"):
                assert seen.image(service.client, name, "1").id == own.image_id(f"localhost/{name}:1")


def test_a_store_whose_path_skopeo_cannot_be_told(directory: Path) -> None:
    below = Store(directory / "x[1]")
    below.directory.mkdir()
    for form in ("oci", "docker"):
        below.podman("build", "--quiet", "--format", form, "--tag", f"localhost/{form}:1", below.context(form))
    words = (*Store(directory).command[1:], *options(f"additionalimagestore={below.directory / 'r'}"))
    with Service(Stacked(directory, words), directory / "p") as service:
        published(service, {"oci": "exact", "docker": "exact"})


def test_a_change_of_a_store_below_is_found_by_a_resync(below: Store, directory: Path) -> None:
    own = Stacked(directory, (*Store(directory).command[1:], *options(f"additionalimagestore={below.directory / 'r'}")))
    with Service(own, directory / "p") as service:
        published(service, FIDELITIES)
        below.podman("build", "--quiet", "--tag", "localhost/later:1", below.context("later"))
        service.tell("resync")
        published(service, {"later": "exact"})
