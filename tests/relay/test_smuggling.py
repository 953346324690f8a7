"""With the real podman as the judge: no bytes that a client can send get done what its profile refuses."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config import Profile
from tests.end_to_end.programs import scratch
from tests.end_to_end.stores import Store
from tests.relay.rig import Rig, in_a_thread
from tests.relay.worlds import podman

DONE = "localhost/smuggled:1"
TAG = b"POST /v4.0.0/libpod/images/localhost/kept:1/tag?repo=localhost/smuggled&tag=1 HTTP/1.1\r\nHost: d\r\n\r\n"
PIECES = [
    TAG,
    TAG.replace(b"POST", b"post"),
    TAG.replace(b"/v4", b"//v4"),
    TAG.replace(b"/tag", b"%2Ftag"),
    TAG.replace(b"/libpod", b"/./libpod"),
    TAG.replace(b"/libpod/images", b"/libpod/x/../images"),
    TAG.replace(b"/images", b"/%69mages"),
    TAG.replace(b" /v4", b" http://d/v4"),
    TAG.replace(b"\r\n", b"\n"),
    TAG.replace(b"POST", b"GET").replace(b"Host: d", b"Host: d\r\nX-HTTP-Method-Override: POST"),
    b"GET /_ping HTTP/1.1\r\nHost: d\r\n",
    b"GET /_ping HTTP/1.0\r\nConnection: keep-alive\r\n",
    b"GET /events HTTP/1.1\r\nHost: d\r\n",
    b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n",
    b"POST /build HTTP/1.1\r\nHost: d\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: %d\r\n" % len(TAG),
    b"Content-Length : 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b" folded\r\n",
    b"\r\n",
    b"\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"5;x=\n\r\nhello\r\n",
    b"%x\r\n%b\r\n" % (len(TAG), TAG),
    b"hello",
]


@pytest.fixture(scope="module")
def judge() -> Iterator[tuple[Store, Rig]]:
    """A podman with one image, and a relay of the profile `read` before it."""
    with scratch() as directory:
        store = Store(directory)
        store.build("localhost/kept:1")
        rig = Rig(directory, Profile.READ)
        with podman(store, rig.podman), in_a_thread(rig.relaying):
            yield store, rig


def send(rig: Rig, content: bytes) -> None:
    """Send bytes, end, and wait until the relay ends too."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(60)
        connection.connect(str(rig.api))
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def test_nothing_that_read_refuses_is_done(judge: tuple[Store, Rig]) -> None:
    store, rig = judge

    @settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8))
    def run(pieces: list[bytes]) -> None:
        send(rig, b"".join(pieces))

    run()
    names = store.podman("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert DONE not in names
    rig_full = socket.socket(socket.AF_UNIX)
    with rig_full:  # the same request does it where nobody stands before podman
        rig_full.connect(str(rig.podman))
        rig_full.sendall(TAG)
        assert rig_full.recv(100).startswith(b"HTTP/1.1 201")
