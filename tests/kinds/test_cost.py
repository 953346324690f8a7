"""A layer that the tree holds is never read from podman's store again."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.programs import run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import seen
from tests.kinds.catalogue import KINDS
from tests.kinds.workshop import Workshop, held, local, make_list

pytestmark = pytest.mark.timeout(1000)

_WITNESS = """#!/bin/sh
# podman, and a note of every blob that it wrote: a layer that was there is a hard link of the tree's.
podman "$@"
code=$?
for word; do before=$output output=$last last=$word; done
case " $* " in *" image save "*)
    find "$output" -type f -links 1 -size +0 -printf '%f\\n' >> "$0.log"
    echo >> "$0.saves" ;;
esac
exit $code
"""


class Witness:
    """A podman that counts every `image save`, and notes which blobs it writes."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.program = directory / "witness"
        self.program.write_text(_WITNESS, encoding="utf-8")
        self.program.chmod(0o755)
        self.log = directory / "witness.log"
        self.count = directory / "witness.saves"
        self.command = [str(self.program), *store.command[1:]]

    def written(self) -> set[str]:
        """Return the names of all files written since the last call."""
        names = set(self.log.read_text(encoding="utf-8").split()) if self.log.exists() else set()
        self.log.write_text("", encoding="utf-8")
        return names

    def saves(self) -> int:
        """Return how many exports podman was started for since the last call."""
        count = len(self.count.read_text(encoding="utf-8")) if self.count.exists() else 0
        self.count.write_text("", encoding="utf-8")
        return count


def layers(service: Service) -> dict[str, set[str]]:
    """Return the layers of every publication in the tree, as hexes, by repository."""
    found: dict[str, set[str]] = {}
    for index in (service.tree / "repositories").rglob("_oci/index.json"):
        blobs = index.parent / "blobs" / "sha256"
        for entry in json.loads(index.read_bytes())["manifests"]:
            manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_bytes())
            name = str(index.parent.parent.relative_to(service.tree / "repositories"))
            digests = {layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]}
            found[name] = found.get(name, set()) | digests
    return found


SAME = ("arm64", "tar", "-oci", "-dir", "buildah", "many", "windows", "no-", "config", "-with-a-subject", "exact")
KNOWN = [kind for kind in KINDS if not kind.name.endswith(SAME) and not kind.name.startswith(SAME)]
"""All kinds but those that are exported just as another one is."""


def test_no_kind_of_image_has_a_known_layer_read_again(service: Service, directory: Path) -> None:
    """A tree that holds all layers and no publication: every image is exported, and no layer is written."""
    witness = Witness(service.store, directory)
    rules = [{"match": [f"localhost/{kind}:1" for kind in KNOWN]}, {"skip": True}]
    again = Service(service.store, directory / "p", {"podman": {"command": witness.command}, "publish": rules})
    shutil.copytree(service.tree / "blobs", again.tree / "blobs", copy_function=os.link)
    run(*again.command("sync"), timeout=600)
    known, written = layers(again), witness.written()
    assert known.keys() == {kind.name for kind in KNOWN}
    assert "index.json" in written, "the witness sees what podman writes"
    assert {name: found & written for name, found in known.items() if found & written} == {}


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_of_the_next_version_only_the_layer_that_changed_is_read(own: Workshop, directory: Path, form: str) -> None:
    store = own.store
    witness = Witness(store, directory)
    service = Service(store, directory / "p", {"podman": {"command": witness.command}})
    store.podman("build", "--quiet", "--format", form, "--tag", "localhost/base:1", store.context("base"))
    versions: list[set[str]] = []
    for number in range(2):
        context = store.context(f"version {number}")
        (context / "Containerfile").write_text("FROM localhost/base:1\nCOPY file /app\n", encoding="utf-8")
        store.podman("build", "--quiet", "--pull=never", "--format", form, "--tag", "localhost/app:1", context)
        service.tell("sync")
        versions.append(witness.written() & set().union(*layers(service).values()))
    assert [len(version) for version in versions] == [2, 1]


def test_a_new_name_for_a_published_image_starts_no_export(own: Workshop, directory: Path) -> None:
    witness = Witness(own.store, directory)
    service = Service(own.store, directory / "p", {"podman": {"command": witness.command}})
    own.store.build("localhost/app:1")
    service.tell("sync")
    assert witness.saves() == 1
    own.store.podman("tag", "localhost/app:1", "localhost/other:2")
    service.tell("sync")
    assert witness.saves() == 0
    assert layers(service)["other"] == layers(service)["app"]


def test_a_member_with_a_name_of_its_own_is_exported_once_for_both_and_for_every_other_list(
    own: Workshop, directory: Path
) -> None:
    witness = Witness(own.store, directory)
    service = Service(own.store, directory / "p", {"podman": {"command": witness.command}})
    context = own.store.context("base")
    (context / "Containerfile").write_text("FROM scratch\nCOPY file /\nLABEL base=yes\n", encoding="utf-8")
    own.store.podman("build", "--quiet", "--tag", "localhost/base:1", context)
    service.tell("sync")
    build_both(own.store, "FROM localhost/base:1\nLABEL form=$form\n")  # no layer that the tree lacks
    make_list(own.store, "localhost/first:1", *local("oci", "docker"))
    service.tell("sync")
    assert witness.saves() == 3
    make_list(own.store, "localhost/second:1", *local("docker", "oci"))
    service.tell("sync")
    assert witness.saves() == 0
    everything = ("base", *EVERYTHING)
    assert published(service) == {name: ("exact", held(own.store, f"localhost/{name}:1")) for name in everything}


def test_names_for_the_members_of_a_published_list_start_no_export(own: Workshop, directory: Path) -> None:
    witness = Witness(own.store, directory)
    settings = {"podman": {"command": witness.command}}
    only_lists = [{"match": ["localhost/first:1", "localhost/second:1"]}, {"skip": True}]
    service = Service(own.store, directory / "p", {**settings, "publish": only_lists})
    build_both(own.store)
    make_list(own.store, "localhost/first:1", *local("oci", "docker"))
    make_list(own.store, "localhost/second:1", *local("docker", "oci"))
    service.tell("sync")
    assert (set(published(service)), witness.saves()) == ({"first", "second"}, 2)
    service.configure(settings)
    service.tell("sync")
    assert witness.saves() == 0
    assert published(service) == {name: ("exact", held(own.store, f"localhost/{name}:1")) for name in EVERYTHING}


def test_a_list_with_a_member_that_is_published_rebuilt_fails_without_an_export(own: Workshop, directory: Path) -> None:
    witness = Witness(own.store, directory)
    service = Service(own.store, directory / "p", {"podman": {"command": witness.command}})
    own.store.build("localhost/plain:1")
    own.store.podman("save", "--format", "oci-archive", "--output", directory / "squeezed", "localhost/plain:1")
    own.store.podman("rmi", "localhost/plain:1")
    own.pull(f"oci-archive:{directory / 'squeezed'}", "squeezed")
    service.tell("sync")
    assert (published(service)["squeezed"][0], witness.saves()) == ("rebuilt", 1)
    make_list(own.store, "localhost/list:1", *local("squeezed"))
    done = service.ask("sync", "--json")
    assert "was pulled compressed" in json.loads(done.stdout)["failures"]["list:1"]
    assert (done.returncode, witness.saves()) == (1, 0)


EVERYTHING = ("oci", "docker", "first", "second")


def build_both(store: Store, recipe: str = "FROM scratch\nCOPY file /file\n") -> None:
    """Build an image in each format, named after it."""
    for form in ("oci", "docker"):
        context = store.context(form)
        (context / "Containerfile").write_text(recipe.replace("$form", form), encoding="utf-8")
        store.podman("build", "--quiet", "--pull=never", "--format", form, "--tag", f"localhost/{form}:1", context)


def published(service: Service) -> dict[str, tuple[str, str]]:
    """Return the fidelity and the digest of everything in the tree, by repository."""
    views = seen.views(service, "--tree", str(service.tree))
    return {view["reference"].rpartition(":")[0]: (view["fidelity"], view["digest"]) for view in views}


def test_without_skopeo_lists_are_exact_and_docker_format_is_at_the_price_of_a_full_copy() -> None:
    with scratch() as directory:
        store = Store(directory)
        context = store.context("docker format")
        store.podman("build", "--quiet", "--format", "docker", "--tag", "localhost/app:1", context)
        make_list(store, "localhost/list:1", *local("app"))
        programs = directory / "bin"
        programs.mkdir()
        for program in ("podman", "sh", "find"):
            (programs / program).symlink_to(str(shutil.which(program)))
        witness = Witness(store, directory)
        service = Service(store, directory / "p", {"podman": {"command": witness.command}})
        done = subprocess.run(
            service.command("sync", "--json"),
            check=False,
            capture_output=True,
            timeout=120,
            env={**os.environ, "PATH": str(programs)},
        )
        told = json.loads(done.stdout)
        assert (done.returncode, sorted(told["published"])) == (0, ["app:1", "list:1"])
        app, listed = held(store, "localhost/app:1"), held(store, "localhost/list:1")
        assert published(service) == {"app": ("exact", app), "list": ("exact", listed)}
        assert "version" in witness.written(), "podman wrote a docker-dir"
