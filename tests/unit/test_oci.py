"""Values that exist are valid, and safe in a path."""

import re
from pathlib import PurePosixPath

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidError
from bridge.oci import (
    DOCKER_LAYER,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    Manifest,
    Reference,
    Repository,
    Tag,
    plain_media_type,
)

HEX = "ab" * 32


@pytest.mark.parametrize("text", [f"sha256:{HEX}", "sha512:" + "0" * 128])
def test_a_digest_prints_as_it_was_parsed(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", f"sha256:{HEX.upper()}", f"sha256:{HEX}0", f"md5:{HEX}", f"sha256:{HEX}\n", f" sha256:{HEX}", HEX],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        Digest.parse(text)


@pytest.mark.parametrize("name", ["a", "a/b", "quay.io/org/app", "a.b_c__d-e---f/9", "127.0.0.1_5000/x", "a" * 255])
def test_repository_names_of_the_specification_are_accepted(name: str) -> None:
    assert Repository(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "a//b",
        "/a",
        "a/",
        "..",
        "a/../b",
        ".a",
        "a.",
        "a..b",
        "a___b",
        "_a",
        "a/_oci",
        "a b",
        "a\x00",
        "a\n",
        "ä",
        "a" * 256,
    ],
)
def test_what_is_no_repository_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        Repository(name)


@given(st.text(max_size=300))
def test_no_repository_or_tag_that_exists_leaves_its_directory(text: str) -> None:
    for kind in (Repository, Tag):
        try:
            name = kind(text).name
        except InvalidError:
            continue
        path = PurePosixPath("/tree") / name
        assert path.is_relative_to("/tree")
        assert ".." not in path.parts
        assert not any(part.startswith("_") for part in path.parts) or kind is Tag
        assert re.fullmatch(r"[A-Za-z0-9._/-]+", name)


@pytest.mark.parametrize("name", ["", ".a", "-a", "a" * 129, "a/b", "a:b", "a\n", "ä"])
def test_what_is_no_tag_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        Tag(name)


def test_a_reference_needs_its_tag() -> None:
    assert Reference.parse("a/b:1") == Reference(Repository("a/b"), Tag("1"))
    for text in ("a/b", "a:1/b", ":1", "a:", "a@sha256:" + HEX):
        with pytest.raises(InvalidError):
            Reference.parse(text)


def descriptor(media_type: str = OCI_LAYER) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{HEX}", "size": 3}


def test_a_manifest_without_a_media_type_is_known_by_its_fields() -> None:
    image = {"schemaVersion": 2, "config": descriptor(), "layers": [descriptor()]}
    index = {"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST)]}
    assert Manifest.parse(msgspec.json.encode(image)).media_type == OCI_MANIFEST
    assert Manifest.parse(msgspec.json.encode(index)).media_type == OCI_INDEX


def test_a_manifest_references_its_config_layers_and_members_but_not_its_subject() -> None:
    image = {"config": descriptor(), "layers": [descriptor()], "subject": descriptor(OCI_MANIFEST)}
    assert len(Manifest.parse(msgspec.json.encode(image)).references) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"mediaType":"text/plain"}',
        b'{"config":7}',
        b'{"config":{}}',
        b"\xff",
        b'{"config":{"mediaType":"a","digest":"sha256:0","size":1}}',
        b'{"manifests":{}, "layers": 7}',
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidError):
        Manifest.parse(content)


@pytest.mark.parametrize("size", [-1, 1.5, "3", None, True])
def test_a_descriptor_has_a_size_in_bytes(size: object) -> None:
    with pytest.raises(InvalidError):
        Descriptor.from_json({**descriptor(), "size": size})


def test_the_plain_form_of_a_layer_keeps_its_family() -> None:
    assert plain_media_type(OCI_LAYER + "+zstd") == OCI_LAYER
    assert plain_media_type(DOCKER_LAYER + ".gzip") == DOCKER_LAYER
    assert plain_media_type("application/vnd.example") == "application/vnd.example"
