"""Errors: each has the status and the OCI code of what is wrong, and nothing outside the tree is touched."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from asyncinotify import Inotify, Mask

from tests.end_to_end.services import Response
from tests.registry.conftest import CANARY
from tests.registry.wires import Registry

NONE = "sha256:" + "0" * 64
BAD_NAMES = (
    "..", "../..", "a/..", "%2e%2e", "%2E%2E/%2e%2e", "..%2F..", "..%2f..%2fcanary", "a%2F..%2F..", "hello/../hello",
    "Hello", "hello%00", "%00", "hello%0a", "a" * 300, "a" * 256, "h%C3%A9llo", "%ff", "-a", "a-", "a..b", "%2e%2e%2f",
    "a___b", "_oci", "hello/_oci", "hello%2F_oci", ".", "a//b", "/a", "//", "%5c..%5c..", "a%20b", "hello%25",
    "hello/", "~root", "a:b", "a@b", "%2fetc%2fpasswd",
)  # fmt: skip
BAD_TAGS = (
    "..", ".", "%2e%2e", "a" * 129, "a" * 300, "%00", "1%00", "1%0a", "h%C3%A9", "%ff", "a+b", "",
    "a%20b",
)  # fmt: skip
BAD_DIGESTS = (
    "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "a" * 300, "sha256:", "sha256:wrong",
    "sha512:" + "a" * 64, "md5:" + "a" * 32, "SHA256:" + "a" * 64, "sha256:" + "%2e%2e" * 2,
    "sha256:" + "a" * 63 + "%00", "sha256%3a" + "z" * 64,
)  # fmt: skip
WRITES = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def assert_error(response: Response, status: int, code: str) -> None:
    """An error is JSON in the specification's shape, with exactly one media type."""
    assert (response.status, response.headers["content-type"]) == (status, "application/json")
    (error,) = response.json["errors"]
    assert error["code"] == code
    assert error["message"]
    assert response.json.keys() == {"errors"}
    assert CANARY not in response.body


@pytest.fixture
def undisturbed(server: Registry, place: Path, tmp_path: Path) -> Iterator[None]:
    """Nothing beside the tree is opened while the test runs."""
    with Inotify(sync_timeout=0) as watch:
        for path in (place, place / "canary"):
            watch.add_watch(path, Mask.OPEN | Mask.ACCESS)
        yield
        opened = [event.path for event in watch if event.path is not None]
    assert [path for path in opened if path.name == "canary"] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/none/manifests/1", "NAME_UNKNOWN"),
        (f"/v2/none/manifests/{NONE}", "NAME_UNKNOWN"),
        (f"/v2/none/blobs/{NONE}", "NAME_UNKNOWN"),
        ("/v2/none/tags/list", "NAME_UNKNOWN"),
        ("/v2/deep/manifests/1", "NAME_UNKNOWN"),
        ("/v2/hello/1/manifests/1", "NAME_UNKNOWN"),
        ("/v2/hello/manifests/2", "MANIFEST_UNKNOWN"),
        (f"/v2/hello/manifests/{NONE}", "MANIFEST_UNKNOWN"),
        (f"/v2/hello/manifests/sha512:{'0' * 128}", "MANIFEST_UNKNOWN"),
        (f"/v2/hello/blobs/{NONE}", "BLOB_UNKNOWN"),
        (f"/v2/hello/blobs/sha512:{'0' * 128}", "BLOB_UNKNOWN"),
    ],
)
def test_what_is_missing_is_told_from_what_it_is_missing_in(server: Registry, path: str, code: str) -> None:
    assert_error(server.get(path), 404, code)


def test_a_blob_of_another_repository_is_not_handed_out(server: Registry) -> None:
    digest = server.get("/v2/hello/manifests/1").json["layers"][0]["digest"]
    assert server.get(f"/v2/hello/blobs/{digest}").status == 200
    assert_error(server.get(f"/v2/docker/blobs/{digest}"), 404, "BLOB_UNKNOWN")


def test_a_manifest_of_another_repository_is_not_handed_out(server: Registry) -> None:
    digest = server.get("/v2/docker/manifests/1").digest
    assert_error(server.get(f"/v2/hello/manifests/{digest}"), 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("part", ["config", "layer"])
def test_a_blob_is_no_manifest(server: Registry, part: str) -> None:
    manifest = server.get("/v2/hello/manifests/1").json
    digest = (manifest["config"] if part == "config" else manifest["layers"][0])["digest"]
    assert_error(server.get(f"/v2/hello/manifests/{digest}"), 404, "MANIFEST_UNKNOWN")


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("kind", ["manifests/1", f"blobs/{NONE}", "tags/list"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_400_and_touches_nothing(server: Registry, name: str, kind: str) -> None:
    assert_error(server.send(f"/v2/{name}/{kind}"), 400, "NAME_INVALID")


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("tag", BAD_TAGS)
def test_a_bad_tag_is_400_and_touches_nothing(server: Registry, tag: str) -> None:
    assert_error(server.send(f"/v2/hello/manifests/{tag}"), 400, "MANIFEST_INVALID")


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_a_bad_digest_is_400_and_touches_nothing(server: Registry, digest: str, kind: str) -> None:
    assert_error(server.send(f"/v2/hello/{kind}/{digest}"), 400, "DIGEST_INVALID")


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize(
    "target",
    [
        "/", "/v1/", "/v2x", "//v2/", "/../canary", "/%2e%2e/canary", "/v2/../canary", "/v2/../../canary", "/canary",
        "/v2/hello", "/v2/hello/", "/v2/hello/manifests", "/v2/hello/blobs/uploads/", "/v2/hello/_oci/index.json",
        "/podbridge.json", "/v2/_catalog/", "/v2//", "/v2/tags/list", "/v2/manifests/1", "http://x/", "http://x/v3/",
        "/v2/hello/manifests/../../canary", "/v2/hello/manifests/..%2F..%2Fcanary", "/v2/hello/blobs/../../../canary",
        "/v2/hello/manifests/%2Fetc%2Fpasswd", "/v2/hello/blobs/sha256:../../../../canary",
        "/v2/hello/blobs/sha256:..%2f..%2f..%2f..%2fcanary", "//[x/v2/://y", "//]/v2/hello/manifests/1?x=://",
    ],
)  # fmt: skip
def test_other_paths_are_errors_too(server: Registry, target: str) -> None:
    response = server.send(target)
    assert response.status in (400, 404)
    assert_error(response, response.status, response.code)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v2/h\u00e9llo/manifests/1", 400),
        ("/v2/hello/manifests/\x00", 400),
        ("/" + "a" * 9000, 431),
        ("*", 400),
        ("no path", 400),
    ],
)
def test_what_is_no_http_is_answered_in_the_same_shape_and_is_no_error_of_the_registry(
    server: Registry, target: str, status: int
) -> None:
    assert_error(server.send(target), status, "UNSUPPORTED")
    assert "ERROR" not in server.said()


def test_an_absolute_target_and_a_query_name_the_same(server: Registry) -> None:
    digest = server.get("/v2/hello/manifests/1").digest
    assert server.send("http://anywhere/v2/hello/manifests/1").digest == digest
    assert server.send("/v2/hello/manifests/1?any=thing").digest == digest
    assert server.send("/v2/hello/manifests/%31").digest == digest
    assert server.send("/v2/hello/manifests/sha256%3A" + digest[7:]).digest == digest


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/hello/manifests/1", "/v2/hello/blobs/uploads/", f"/v2/hello/blobs/{NONE}"]
)
@pytest.mark.parametrize("method", WRITES)
def test_every_other_method_is_405_and_says_what_to_do_instead(server: Registry, method: str, path: str) -> None:
    response = server.send(path, method)
    assert_error(response, 405, "UNSUPPORTED")
    assert response.headers["allow"] == "GET, HEAD"
    assert "read only" in response.json["errors"][0]["message"]
    assert "podbridge publish" in response.json["errors"][0]["message"]
