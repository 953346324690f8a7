"""Pulling: what is published is answered with its own bytes and with true headers."""

import hashlib

import pytest

from tests.end_to_end.programs import eventually
from tests.registry.conftest import LARGE
from tests.registry.wires import Registry

MEDIA_TYPES = {
    "hello": "application/vnd.oci.image.manifest.v1+json",
    "untyped": "application/vnd.oci.image.manifest.v1+json",
    "docker": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "list": "application/vnd.docker.distribution.manifest.list.v2+json",
}


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_the_base_says_that_this_is_a_registry(server: Registry, path: str) -> None:
    response = server.get(path)
    assert response.status == 200
    assert response.json == {}
    assert response.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize("repository", MEDIA_TYPES)
def test_a_manifest_by_tag_comes_with_its_media_type_and_digest(server: Registry, repository: str) -> None:
    response = server.get(f"/v2/{repository}/manifests/1")
    assert response.status == 200
    assert response.headers["content-type"] == MEDIA_TYPES[repository]
    assert response.digest == sha256(response.body)
    assert response.headers["etag"] == f'"{response.digest}"'
    assert int(response.headers["content-length"]) == len(response.body)


@pytest.mark.parametrize("repository", MEDIA_TYPES)
def test_a_manifest_by_digest_is_the_one_of_the_tag(server: Registry, repository: str) -> None:
    by_tag = server.get(f"/v2/{repository}/manifests/1")
    by_digest = server.get(f"/v2/{repository}/manifests/{by_tag.digest}")
    assert (by_digest.status, by_digest.body) == (200, by_tag.body)
    assert by_digest.headers["content-type"] == by_tag.headers["content-type"]


@pytest.mark.parametrize("repository", ["index", "list"])
def test_the_members_of_an_index_are_pulled_by_digest(server: Registry, repository: str) -> None:
    members = server.get(f"/v2/{repository}/manifests/1").json["manifests"]
    assert members
    for member in members:
        response = server.get(f"/v2/{repository}/manifests/{member['digest']}")
        assert (response.status, sha256(response.body)) == (200, member["digest"])
        assert response.headers["content-type"] == member["mediaType"]
        for blob in (response.json["config"], *response.json["layers"]):
            assert sha256(server.get(f"/v2/{repository}/blobs/{blob['digest']}").body) == blob["digest"]


@pytest.mark.parametrize("size", [0, 65536, 65537, len(LARGE)])
def test_a_blob_of_any_size_is_answered_whole(server: Registry, size: int) -> None:
    layers = server.get("/v2/large/manifests/1").json["layers"]
    (digest,) = (layer["digest"] for layer in layers if layer["size"] == size)
    response = server.get(f"/v2/large/blobs/{digest}")
    assert response.status == 200
    assert sha256(response.body) == digest == response.digest
    assert int(response.headers["content-length"]) == size
    assert "transfer-encoding" not in response.headers
    assert response.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "kind", ["manifest", "manifest by digest", "small blob", "large blob", "tags", "catalog", "base"]
)
def test_head_answers_the_headers_of_get_and_no_body(server: Registry, kind: str) -> None:
    manifest = server.get("/v2/large/manifests/1")
    sizes = {layer["size"]: layer["digest"] for layer in manifest.json["layers"]}
    path = {
        "manifest": "/v2/large/manifests/1",
        "manifest by digest": f"/v2/large/manifests/{manifest.digest}",
        "small blob": f"/v2/large/blobs/{sizes[65536]}",
        "large blob": f"/v2/large/blobs/{sizes[len(LARGE)]}",
        "tags": "/v2/large/tags/list",
        "catalog": "/v2/_catalog",
        "base": "/v2/",
    }[kind]
    head, get = server.get(path, "HEAD"), server.get(path)
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


def test_head_of_what_is_missing_answers_the_headers_of_get(server: Registry) -> None:
    head, get = server.get("/v2/hello/manifests/none", "HEAD"), server.get("/v2/hello/manifests/none")
    assert (head.status, head.body) == (404, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


def test_tags_and_repositories_are_listed_in_order(server: Registry) -> None:
    assert server.get("/v2/hello/tags/list").json == {"name": "hello", "tags": ["1", "latest"]}
    assert server.get("/v2/deep/er/name/tags/list").json == {"name": "deep/er/name", "tags": ["v1.0_x-Y"]}
    names = ["deep/er/name", "docker", "hello", "index", "large", "list", "untyped"]
    assert server.get("/v2/_catalog").json == {"repositories": names}
    assert server.get("/v2/_catalog").headers["content-type"] == "application/json"


def test_one_connection_serves_many_requests(server: Registry) -> None:
    layers = server.get("/v2/large/manifests/1").json["layers"]
    with server.connect() as connection, connection.makefile("rb") as answers:
        for layer in layers * 2:
            connection.sendall(f"GET /v2/large/blobs/{layer['digest']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            while answers.readline() != b"\r\n":
                pass
            assert sha256(answers.read(layer["size"])) == layer["digest"]


def test_a_client_that_hangs_up_in_the_middle_of_a_blob_costs_nothing(server: Registry) -> None:
    layers = server.get("/v2/large/manifests/1").json["layers"]
    (digest,) = (layer["digest"] for layer in layers if layer["size"] == len(LARGE))
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(f"GET /v2/large/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert server.get(f"/v2/large/blobs/{digest}").body == LARGE
    hexadecimal = digest.partition(":")[2]
    eventually(lambda: not any(hexadecimal in name for name in server.open_files()))
    assert "Traceback" not in server.said()
