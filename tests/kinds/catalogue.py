"""Every kind of image that podman can hold: how it comes into a store, and how near to it the served one is."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bridge import oci
from tests.end_to_end.programs import run
from tests.end_to_end.stores import Store
from tests.kinds import layouts
from tests.kinds.layouts import EMPTY_TAR, Layer, tar
from tests.kinds.workshop import Workshop

Make = Callable[[Workshop, str], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of image: `make` puts one into a store as `localhost/<name>:1`."""

    name: str
    fidelity: str
    make: Make

    def __str__(self) -> str:
        return self.name


KINDS: list[Kind] = []

PODMAN = int(run("podman", "--version").split()[-1].partition(".")[0])
"""The first number of podman's version."""


def kind(fidelity: str, before: int = 1000) -> Callable[[Make], Make]:
    """Note a function as the maker of a kind, which it names, for podman before a version."""

    def note(make: Make) -> Make:
        if before > PODMAN:
            KINDS.append(Kind(make.__name__.replace("_", "-"), fidelity, make))
        return make

    return note


_INSTRUCTIONS = """FROM scratch
COPY file /file
ENV GREETING=hello
LABEL version=1
EXPOSE 8080/tcp
VOLUME /data
WORKDIR /work
USER 12:34
STOPSIGNAL SIGINT
ENTRYPOINT ["/file"]
CMD ["serve"]
"""
_DOCKERS_OWN = """SHELL ["/bin/ash", "-c"]
HEALTHCHECK --interval=7s CMD ["/file", "check"]
ONBUILD COPY more /more
"""


def _build(store: Store, name: str, content: str, *words: str) -> None:
    context = store.context(name)
    (context / "Containerfile").write_text(content, encoding="utf-8")
    store.podman("build", "--quiet", "--layers=false", *words, "--tag", f"localhost/{name}:1", context)


@kind("exact")
def podman_build(here: Workshop, name: str) -> None:
    _build(here.store, name, _INSTRUCTIONS, "--annotation", "org.example.note=kept")


@kind("exact")
def podman_build_docker(here: Workshop, name: str) -> None:
    _build(here.store, name, _INSTRUCTIONS + _DOCKERS_OWN, "--format", "docker")


@kind("exact")
def podman_build_arm64(here: Workshop, name: str) -> None:
    _build(here.store, name, "FROM scratch\nCOPY file /file\n", "--platform", "linux/arm64/v8")


def _buildah(here: Workshop, name: str, form: str) -> None:
    buildah = here.store.buildah
    file = here.store.context(name) / "file"
    buildah("from", "--name", name, "scratch")
    buildah("copy", "--quiet", "--chown", "1234:5678", "--chmod", "4750", name, file, "/etc/owned")
    buildah("config", "--label", f"name={name}", "--annotation", "a=b", name)
    buildah("commit", "--quiet", "--rm", "--format", form, name, f"localhost/{name}:1")


@kind("exact")
def buildah_commit(here: Workshop, name: str) -> None:
    _buildah(here, name, "oci")


@kind("exact")
def buildah_commit_docker(here: Workshop, name: str) -> None:
    _buildah(here, name, "docker")


def _commit(here: Workshop, name: str, form: str) -> None:
    base = f"localhost/{name}-base:1"
    here.store.build(base)
    here.store.podman("create", "--quiet", "--network=none", "--name", name, base, "/file")
    here.store.podman("cp", here.store.context(f"more for {name}") / "file", f"{name}:/added")
    here.store.podman("commit", "--quiet", "--format", form, "--author", "somebody", name, f"localhost/{name}:1")
    here.store.podman("rm", name)


@kind("exact")
def podman_commit(here: Workshop, name: str) -> None:
    _commit(here, name, "oci")


@kind("exact")
def podman_commit_docker(here: Workshop, name: str) -> None:
    _commit(here, name, "docker")


def _load(here: Workshop, name: str, form: str, *words: str) -> None:
    archive = here.directory / f"{name}.tar"
    here.store.build(f"localhost/{name}:1")
    here.store.podman("save", "--quiet", "--format", form, *words, "--output", archive, f"localhost/{name}:1")
    here.store.podman("rmi", f"localhost/{name}:1")
    here.store.podman("load", "--quiet", "--input", archive)


@kind("corrected")
def load_docker_archive(here: Workshop, name: str) -> None:
    _load(here, name, "docker-archive")


@kind("rebuilt")
def load_oci_archive(here: Workshop, name: str) -> None:
    _load(here, name, "oci-archive")


@kind("exact")
def load_oci_archive_uncompressed(here: Workshop, name: str) -> None:
    _load(here, name, "oci-archive", "--uncompressed")


@kind("exact")
def import_tar(here: Workshop, name: str) -> None:
    file = here.directory / f"{name}.tar"
    file.write_bytes(tar(name))
    here.store.podman("import", "--quiet", "--change", "CMD=/x", file, f"localhost/{name}:1")


@kind("rebuilt")
def import_tar_gz(here: Workshop, name: str) -> None:
    file = here.directory / f"{name}.tar.gz"
    file.write_bytes(gzip.compress(tar(name)))
    here.store.podman("import", "--quiet", file, f"localhost/{name}:1")


def _pulled() -> Iterator[tuple[str, Make]]:
    for form in ("oci", "v2s2"):
        for compression in ("gzip", "zstd"):
            for transport in ("dir", "oci", "docker"):
                if form == "oci" or (transport != "oci" and compression == "gzip"):
                    yield f"pulled-{form}-{compression}-{transport}", _puller(form, compression, transport)


def _puller(form: str, compression: str, transport: str) -> Make:
    def make(here: Workshop, name: str) -> None:
        plain = here.directory / f"{name}-plain"
        layouts.write(plain, [Layer(tar(f"{name}-{number}", 3)) for number in range(2)])
        where = {
            "dir": f"dir:{here.directory / name}",
            "oci": f"oci:{here.directory / name}:1",
            "docker": f"docker://{here.registry}/{name}:1",
        }
        words = "--format", form, "--dest-compress", "--dest-compress-format", compression
        here.pull(here.convert(plain, where[transport], *words), name)

    return make


KINDS += [Kind(name, "rebuilt", make) for name, make in _pulled()]


def _on_pulled_base(here: Workshop, name: str, compression: str, form: str) -> None:
    base = f"{name}-base"
    _puller("oci", compression, "dir")(here, base)
    _build(here.store, name, f"FROM localhost/{base}:1\nCOPY file /file\n", "--format", form, "--pull=never")


@kind("exact")
def build_on_pulled_gzip(here: Workshop, name: str) -> None:
    _on_pulled_base(here, name, "gzip", "oci")


@kind("exact")
def build_on_pulled_zstd(here: Workshop, name: str) -> None:
    _on_pulled_base(here, name, "zstd", "oci")


@kind("exact")
def build_docker_on_pulled_zstd(here: Workshop, name: str) -> None:
    _on_pulled_base(here, name, "zstd", "docker")


def _by_hand(here: Workshop, name: str, layers: Iterable[Layer], content: bytes | None = None, **fields: Any) -> str:
    directory = here.directory / name
    layouts.write(directory, tuple(layers), content, **fields)
    return here.take(f"dir:{directory}", name)


@kind("exact")
def windows(here: Workshop, name: str) -> None:
    layers = [Layer(tar(name))]
    _by_hand(here, name, layers, layouts.config(layers, os="windows", **{"os.version": "10.0.17763.1817"}))


@kind("exact")
def no_layers(here: Workshop, name: str) -> None:
    _by_hand(here, name, [], layouts.config([], author=name))


@kind("exact")
def one_layer_twice(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(tar(f"{name}-{letter}")) for letter in "abba"])


@kind("rebuilt")
def one_layer_twice_gzip(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(tar(f"{name}-{letter}")).gzipped() for letter in "aba"])


@kind("exact")
def empty_layers(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(EMPTY_TAR), Layer(tar(name)), Layer(EMPTY_TAR)])


@kind("exact")
def layer_of_no_bytes(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(tar(name)), Layer(b"")])


@kind("rebuilt")
def empty_layers_gzip(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(EMPTY_TAR).gzipped(), Layer(tar(name)).gzipped()])


@kind("exact")
def config_of_a_megabyte(here: Workshop, name: str) -> None:
    layers = [Layer(tar(name))]
    labels = {f"label{number}": "v" * 1000 for number in range(1000)}
    _by_hand(here, name, layers, layouts.config(layers, config={"Labels": labels}))


_ELSEWHERE = {"urls": ["http://127.0.0.1:1/layer"]}


@kind("exact", before=5)
def nondistributable(here: Workshop, name: str) -> None:
    """Keep the `urls`. podman 5 asks them first when it pulls, and nothing answers on these (5.8.6)."""
    _by_hand(here, name, [Layer(tar(name), oci.OCI_LAYER_NONDISTRIBUTABLE, _ELSEWHERE)])


@kind("rebuilt")
def nondistributable_gzip(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(tar(name), oci.OCI_LAYER_NONDISTRIBUTABLE, _ELSEWHERE).gzipped()])


@kind("rebuilt")
def docker_foreign(here: Workshop, name: str) -> None:
    layers = [Layer(tar(name), oci.DOCKER_LAYER_FOREIGN, _ELSEWHERE).gzipped()]
    _by_hand(here, name, layers, mediaType=oci.DOCKER_MANIFEST)


@kind("rebuilt")
def decrypted(here: Workshop, name: str) -> None:
    """Encrypt an image, and copy it into the store with the key."""
    key, public = here.keys()
    layouts.write(here.directory / name, [Layer(tar(f"{name}-{number}")).gzipped() for number in range(2)])
    words = "--quiet", "--encryption-key", f"jwe:{public}"
    run("skopeo", "copy", *words, f"dir:{here.directory / name}", f"dir:{here.directory / name}-secret")
    there = here.store.skopeo_name(f"localhost/{name}:1")
    run("skopeo", "copy", "--quiet", "--decryption-key", key, f"dir:{here.directory / name}-secret", there)


def _mislabelled(here: Workshop, name: str, suffix: str, *keys: str, base: str = oci.OCI_LAYER) -> None:
    more = {"annotations": {"org.example.note": "kept", **dict.fromkeys(keys, "e30=")}}
    _by_hand(here, name, [Layer(tar(f"{name}-{number}"), base + suffix, more) for number in range(2)])


@kind("corrected", before=5)
def plain_labelled_encrypted(here: Workshop, name: str) -> None:
    """Do what some versions of skopeo leave of a decryption: the origin's label and keys, over a plain tar.

    podman 5 itself neither saves nor pushes such an image: "unsupported MIME type for decompression" (5.8.6).
    """
    keys = "org.opencontainers.image.enc.keys.jwe", "org.opencontainers.image.enc.pubopts"
    _mislabelled(here, name, "+gzip+encrypted", *keys)


@kind("corrected")
def plain_labelled_estargz(here: Workshop, name: str) -> None:
    keys = "io.containers.estargz.uncompressed-size", "containerd.io/snapshot/remote/stargz.prefetch"
    _mislabelled(here, name, "+gzip", *keys)


@kind("corrected", before=5)
def plain_labelled_bz2(here: Workshop, name: str) -> None:
    _mislabelled(here, name, "+bz2")


@kind("corrected", before=5)
def plain_nondistributable_labelled_encrypted(here: Workshop, name: str) -> None:
    key = "org.opencontainers.image.enc.keys.pkcs7"
    _mislabelled(here, name, "+zstd+encrypted", key, base=oci.OCI_LAYER_NONDISTRIBUTABLE)


_ANNOTATED: dict[str, Any] = {
    "annotations": {"org.example.a": 'quotes " and \N{SNOWMAN}'},
    "subject": {"mediaType": oci.OCI_MANIFEST, "digest": f"sha256:{'a' * 64}", "size": 3},
    "artifactType": "application/vnd.example.thing",
}


@kind("exact")
def annotated_with_a_subject(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(tar(name), more={"annotations": {"of": "the layer"}})], **_ANNOTATED)


@kind("rebuilt")
def annotated_with_a_subject_gzip(here: Workshop, name: str) -> None:
    _by_hand(here, name, [Layer(tar(name), more={"annotations": {"of": "the layer"}}).gzipped()], **_ANNOTATED)


@kind("exact")
def many_names(here: Workshop, name: str) -> None:
    here.store.build(f"localhost/{name}:1")
    here.store.podman("tag", f"localhost/{name}:1", *(f"example.com/names/n{number}:v{number}" for number in range(50)))


@kind("exact")
def one_id_under_two_manifests(here: Workshop, name: str) -> None:
    """Store it as an OCI image, and then the same config and layers once more as a docker archive."""
    image = _by_hand(here, name, [Layer(tar(name))])
    archive = here.directory / f"{name}.tar"
    here.store.podman("save", "--quiet", "--format", "docker-archive", "--output", archive, image)
    here.store.podman("load", "--quiet", "--input", archive)
