"""What each profile lets through, and that nothing else comes through, however it is written."""

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import Profile
from bridge.relay import profiles
from bridge.relay.calls import Call
from bridge.relay.profiles import covers, required

ROOT = Path(__file__).parents[2]

READ = [
    "GET /_ping",
    "HEAD /_ping",
    "GET /v1.41/version",
    "GET /v4.3.1/libpod/info",
    "GET /v4.0.0/libpod/events?stream=true&filters=%7B%7D",
    "GET /v1.41/images/json?all=1",
    "GET //v1.41//images/json",
    "GET /v4/libpod/images/quay.io/org/app:1/json",
    "GET /v4.0.0/libpod/images/quay.io%2Forg%2Fapp%3A1/history",
    "GET /images/sha256:0123abcd/get",
    "GET /images/[::1]:5000/app:1/get",
    "GET /images/get?names=a&names=b",
    "GET /v4.0.0/libpod/images/export?references=a",
    "GET /v4.0.0/libpod/manifests/localhost/list:1/exists",
    "GET /containers/json",
    "GET /v4.0.0/libpod/containers/web/exists",
]
PUBLISH = [
    "POST /v1.41/images/app:1/tag?repo=x&tag=2",
    "POST /v4.0.0/libpod/images/localhost%2Fapp/tag?repo=x",
    "POST /v4.0.0/libpod/images/app:1/untag",
]
FULL = [
    "DELETE /images/app:1",
    "POST /images/app:1/push",
    "POST /images/create?fromImage=x",
    "POST /build",
    "POST /v4.0.0/libpod/containers/create",
    "POST /containers/web/attach",
    "GET /containers/web/attach/ws",
    "GET /containers/web/json",
    "GET /containers/web/logs",
    "GET /containers/web/archive?path=/etc",
    "HEAD /containers/web/archive?path=/etc",
    "GET /containers/web/export",
    "GET /containers/web/top?ps_args=aux",
    "GET /v5.0.0/libpod/secrets/x/json?showsecret=true",
    "GET /secrets",
    "GET /volumes",
    "GET /images/search?term=evil.example.com/x",
    "GET /v4.0.0/libpod/manifests/evil.example.com/x/json",
    "GET /distribution/evil.example.com/x/json",
    "POST /auth",
    "GET /v4.0.0/libpod/generate/x/systemd",
    "POST /images/json",
    "PUT /images/json",
    "get /images/json",
    "GET /Images/json",
    "GET /images/%6Ason",
    "GET /images/x/../../containers/web/json",
    "GET /images/x/%2e%2e/%2E%2E/containers/web/json",
    "GET /images/x%2F..%2F..%2Fcontainers%2Fweb/json",
    "GET /images/%252e%252e/json",
    "GET /images/x\\..\\y/json",
    "GET /images/x%00/json",
    "GET /images/x;y/json",
    "GET /images//x/json/",
    "GET /images/json/",
    "GET /vv1/images/json",
    "GET /v1.2.3.4/images/json",
    "GET /libpod/libpod/images/json",
    "GET /",
    "GET /..",
]


@pytest.mark.parametrize(
    ("line", "profile"),
    [
        *((line, Profile.READ) for line in READ),
        *((line, Profile.PUBLISH) for line in PUBLISH),
        *((line, Profile.FULL) for line in FULL),
    ],
)
def test_every_request_needs_the_least_profile_that_it_should(line: str, profile: Profile) -> None:
    method, _, target = line.partition(" ")
    assert required(Call.parse(method, target)) is profile


def test_each_profile_includes_those_before_it() -> None:
    covered = {(granted, needed) for granted in Profile for needed in Profile if covers(granted, needed)}
    assert covered == {
        (Profile.READ, Profile.READ),
        (Profile.PUBLISH, Profile.READ),
        (Profile.PUBLISH, Profile.PUBLISH),
        *((Profile.FULL, needed) for needed in Profile),
    }


PIECES = re.split(
    " +",
    "/ // /v4 /v1.41 /libpod /images /json /x /get /containers /archive /tag /exec /_ping /secrets /search /exists "
    "/manifests /export /untag /events .. . %2e %2E%2E %2F %2f %5c \\ ; : @ ? # %00 %0a %25 a A é &names= =",
)


@settings(max_examples=1000)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]),
    pieces=st.lists(st.sampled_from(PIECES), max_size=10),
)
def test_what_is_let_through_means_the_same_however_a_server_reads_its_path(method: str, pieces: list[str]) -> None:
    """Decoded once, twice, with dots resolved or double slashes merged: it stays below the same place."""
    target = "/" + "".join(pieces)
    call = Call.parse(method, target)
    if required(call) is Profile.FULL:
        return
    place = target.partition("?")[0]
    for decoded in (place, unquote(place), unquote(unquote(place))):
        resolved = posixpath.normpath(decoded.replace("//", "/"))
        again = Call.parse(method, resolved)
        assert again.path.split("/")[1] == call.path.split("/")[1]
        assert again.path.rpartition("/")[2] == call.path.rpartition("/")[2]
        assert required(again) is required(call)


def test_the_documented_tables_are_the_ones_that_are_used() -> None:
    text = (ROOT / "docs" / "decisions" / "0023-profiles.md").read_text(encoding="utf-8")
    for path in (*profiles._READ, *profiles._TAG):
        assert f"`{path}`" in text, path
