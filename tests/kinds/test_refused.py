"""What no client could pull is refused, with the true reason and a cure that works, over either transport."""

import bz2
import json
import lzma
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.podman.service import listens
from tests import versions
from tests.end_to_end.programs import SOON, eventually, run
from tests.end_to_end.services import Service
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, tar
from tests.kinds.workshop import Workshop

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": lambda content: subprocess.run(["zstd"], input=content, capture_output=True, check=True).stdout,
}


def version(own: Workshop) -> int:
    return int(own.store.podman("--version").split()[-1].partition(".")[0])


@pytest.fixture(params=["local", "rest"])
def service(request: pytest.FixtureRequest, own: Workshop) -> Iterator[Service]:
    """A service on the test's own store, by podman's programs or by its socket."""
    if request.param == "local":
        with Service(own.store, own.store.directory / "p") as service:
            yield service
    else:
        with rest(own) as service:
            yield service


@contextmanager
def rest(own: Workshop) -> Iterator[Service]:
    socket = own.store.directory / "s.sock"
    command = [*own.store.command, "system", "service", "--time=0", f"unix://{socket}"]
    podman = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = {"podman": {"socket": f"unix://{socket}", "command": ["/nowhere/podman"], "export": "rest"}}
    try:
        eventually(lambda: listens(socket))
        with Service(own.store, own.store.directory / "p", settings) as service:
            yield service
    finally:
        podman.terminate()
        podman.wait(SOON)


def refusal(service: Service, reference: str) -> str:
    """Return why a reference is not published."""
    view = eventually(
        lambda: [one for one in seen.views(service) if one["reference"] == reference and "message" in one]
    )
    assert service.client.digest(*reference.split(":")) is None
    eventually(lambda: service.staged() == 0)
    return str(view[0]["message"])


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix != "zst" or shutil.which("zstd")])
def test_an_import_whose_config_names_the_compressed_bytes(own: Workshop, service: Service, suffix: str) -> None:
    """podman 5 names the plain tar, and such an image is served."""
    file = own.directory / f"root.tar.{suffix}"
    file.write_bytes(COMPRESS[suffix](tar("root")))
    own.store.podman("import", "--quiet", file, "localhost/root:1")
    if version(own) >= 5:
        eventually(lambda: service.client.digest("root", "1"))
        assert seen.image(service.client, "root", "1").layers == (tar("root"),)
        return
    said = refusal(service, "root:1")
    assert layouts.digest(file.read_bytes()) in said
    assert layouts.digest(tar("root")) in said
    assert "import the decompressed tar" in said
    plain = own.directory / "root.tar"
    plain.write_bytes(tar("root"))
    own.store.podman("import", "--quiet", plain, "localhost/root:1")
    eventually(lambda: service.client.digest("root", "1"))


@pytest.mark.parametrize("form", ["plain", "gzip"])
def test_zstd_chunked_layers_that_are_not_the_tars_of_the_config(own: Workshop, service: Service, form: str) -> None:
    """skopeo 1.9 writes other tars into them, and leaves the config as it was; later ones keep the tars."""
    name = own.store.directory.name  # no other test's: what the registry has already is not made again
    layers = [Layer(tar(f"{name} {number}", files=9)) for number in range(2)]
    source = own.directory / "source"
    layouts.write(source, [layer.gzipped() for layer in layers] if form == "gzip" else layers)
    pushed = own.convert(source, f"docker://{own.registry}/{name}:1", "--dest-compress-format", "zstd:chunked")
    sent = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", pushed))
    assert all("zstd-chunked.manifest-checksum" in str(layer["annotations"]) for layer in sent["layers"])
    own.pull(pushed, "chunked")
    if version(own) >= 5:
        eventually(lambda: service.client.digest("chunked", "1"))
        assert seen.image(service.client, "chunked", "1").layers == tuple(layer.content for layer in layers)
        return
    said = refusal(service, "chunked:1")
    assert layouts.digest(layers[0].content) in said
    assert said.endswith("not retried until the image changes")
    own.store.build("localhost/good:1")
    eventually(lambda: service.client.digest("good", "1"))


def test_a_config_that_names_another_layer_than_the_manifest(own: Workshop, service: Service) -> None:
    """podman 4 takes such an image; podman 5 refuses to, as do other clients that verify."""
    if version(own) >= 5:
        pytest.skip("podman 5 does not take it into its store")
    named, held = Layer(tar("named")), Layer(tar("held"))
    own.store.build("localhost/before:1")
    layouts.write(own.directory / "known", [named])
    own.take(f"dir:{own.directory / 'known'}", "known")
    eventually(lambda: service.client.digest("known", "1"))
    layouts.write(own.directory / "other", [held], layouts.config([named], author="another"))
    own.take(f"dir:{own.directory / 'other'}", "other")
    said = refusal(service, "other:1")
    assert layouts.digest(held.content) in said, "also where the tree holds the layer that the config names"


UNCLEAR: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a layer without a media type": lambda value: value | {"layers": [_without(value["layers"][0], "mediaType")]},
    "a layer with an empty media type": lambda value: value | {"layers": [value["layers"][0] | {"mediaType": ""}]},
    "Layers beside layers": lambda value: value | {"Layers": None},
    "a long s": lambda value: value | {"layer\u017f": []},
    "Config instead of config": lambda value: {"Config": value["config"]} | _without(value, "config"),
    "Digest in a layer": lambda value: (
        value | {"layers": [value["layers"][0] | {"Digest": value["layers"][0]["digest"]}]}
    ),
}
"""What podman takes, and clients take for different things, or for nothing."""


def _without(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: part for name, part in value.items() if name != key}


@pytest.mark.parametrize("what", UNCLEAR)
def test_a_manifest_that_is_not_the_same_to_all_clients_is_refused_for_good(
    own: Workshop, service: Service, what: str
) -> None:
    directory = own.directory / "unclear"
    layouts.write(directory, [Layer(tar(what))])
    value = json.loads((directory / "manifest.json").read_bytes())
    (directory / "manifest.json").write_text(json.dumps(UNCLEAR[what](value)))
    own.take(f"dir:{directory}", "unclear")
    is_podmans = "media type" in what and versions.A_SAVE_NEEDS_MEDIA_TYPES.holds()
    words = "cannot update unknown MIME type" if is_podmans else "not retried until the image changes"
    assert words in refusal(service, "unclear:1")


def test_docker_schema_1_until_it_is_converted(own: Workshop, service: Service, directory: Path) -> None:
    source, first = own.directory / "source", own.directory / "first"
    layers = [Layer(tar("first")).gzipped()]
    layouts.write(source, layers, layouts.config(layers, history=[{"created": "2020-01-01T00:00:00Z"}]))
    own.convert(source, f"dir:{first}", "--format", "v2s1")
    own.take(f"dir:{first}", "first")
    said = refusal(service, "first:1")
    assert "Docker schema 1" in said
    words = said.partition("`")[2].partition("`")[0].replace("dir:DIR", f"dir:{directory / 'converted'}").split()[1:]
    own.store.podman(*words)
    image = own.store.podman("pull", "--quiet", f"dir:{directory / 'converted'}")
    own.store.podman("tag", image, "localhost/first:2")
    eventually(lambda: service.client.digest("first", "2"))
    assert seen.image(service.client, "first", "2").layers == (tar("first"),)
