"""A publication is found by every digest that anybody may know it by, and its layers where it says they are."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge import oci
from tests.end_to_end.programs import eventually, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, digest, tar
from tests.kinds.workshop import Workshop

pytestmark = pytest.mark.timeout(1000)

REBUILT = "pulled-v2s2-gzip-dir"


def test_a_publication_is_found_by_each_of_its_digests_and_by_its_image_id(
    workshop: Workshop, service: Service
) -> None:
    view = seen.view(service, f"{REBUILT}:1")
    origin = digest((workshop.directory / REBUILT / "manifest.json").read_bytes())
    assert origin in view["origins"]
    assert len({view["digest"], view["podmanDigest"], origin}) >= 2
    for known in (view["digest"], view["podmanDigest"], origin, view["image"], f"sha256:{view['image']}", origin[:19]):
        assert [one["reference"] for one in seen.views(service, "--digest", known)] == [f"{REBUILT}:1"]
    assert service.ask("list", "--digest", digest(b"nobody's")).stdout == ""


def test_the_tree_alone_tells_it_too(service: Service) -> None:
    view = seen.view(service, f"{REBUILT}:1")
    offline = seen.views(service, "--tree", str(service.tree), "--digest", view["podmanDigest"])
    assert [(one["digest"], one["fidelity"]) for one in offline] == [(view["digest"], "rebuilt")]


def test_every_tag_of_a_pulled_image_is_found_by_the_digest_of_its_registry(
    workshop: Workshop, service: Service
) -> None:
    name = "pulled-oci-zstd-docker"
    (told,) = workshop.inspect(f"localhost/{name}:1")
    (pulled,) = {text.rpartition("@")[2] for text in told["RepoDigests"]}
    found = {one["reference"] for one in seen.views(service, "--digest", pulled)}
    assert found == {f"{name}:1", f"{workshop.registry.replace(':', '_')}/{name}:1"}


def test_an_image_of_one_name_after_another_is_served_as_the_last(own: Workshop) -> None:
    with Service(own.store, own.store.directory / "p") as service:
        digests = []
        for number in range(4):
            directory = own.directory / str(number)
            layouts.write(directory, [Layer(tar(str(number)))])
            own.take(f"dir:{directory}", "turns")
            digests.append(own.store.digest("localhost/turns:1"))
        eventually(lambda: service.client.shows("turns", "1", digests[-1]))
        assert len(set(digests)) == 4
        seen.image(service.client, "turns", "1")
        own.take(f"dir:{own.directory / '2'}", "turns")
        eventually(lambda: service.client.shows("turns", "1", digests[2]))
        assert seen.image(service.client, "turns", "1").digest == digests[2]


def test_an_image_of_more_layers_than_can_be_mounted_is_served_whole(own: Workshop, directory: Path) -> None:
    """Podman keeps as many as there are, and mounts no more than 128."""
    layers = [Layer(tar(str(number))) for number in range(130)]
    shown = layouts.write(own.directory / "many", layers)
    own.take(f"dir:{own.directory / 'many'}", "many")
    service = Service(own.store, directory / "p")
    service.tell("sync")
    with service:
        served = seen.image(service.client, "many", "1")
        assert (served.digest, served.layers) == (shown, tuple(layer.content for layer in layers))
        assert seen.raw(f"docker://{service.address}/many:1") == shown


@contextmanager
def serving(content: bytes) -> Iterator[str]:
    """Serve some bytes over HTTP while the block runs; give their URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/layer"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_layer_that_lies_elsewhere_too_is_pulled_whole(own: Workshop, directory: Path, compressed: bool) -> None:
    """Clients ask the layer's `urls` first; what they get there must have the digest that the manifest says."""
    plain = Layer(tar("elsewhere"), oci.OCI_LAYER_NONDISTRIBUTABLE)
    layer = plain.gzipped() if compressed else plain
    with serving(layer.content) as url, Service(own.store, directory / "p") as service:
        where = own.directory / "elsewhere"
        layouts.write(where, [Layer(layer.content, layer.media_type, {"urls": [url]})])
        image = own.take(f"dir:{where}", "elsewhere")
        eventually(lambda: service.client.digest("elsewhere", "1"))
        with scratch() as empty:
            assert seen.pull(Store(empty), f"{service.address}/elsewhere:1") == image
