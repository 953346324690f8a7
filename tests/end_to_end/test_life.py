"""Starts, stops, crashes and restarts of podbridge and of podman."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.programs import SOON, eventually, podbridge, processes_on
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store


def digest(store: Store, name: str) -> str:
    return store.digest(f"localhost/{name}")


@contextmanager
def podman_service(store: Store, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run podman's own service on a socket while the block runs."""
    command = [*store.command, "system", "service", "--time=0", f"unix://{path}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(path))
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_images_that_were_there_before_are_all_published_when_it_says_ready(own: Service) -> None:
    names = [f"early{number}" for number in range(4)]
    for name in names:
        own.store.build(f"localhost/{name}:1")
    own.store.podman("tag", "localhost/early0:1", "localhost/another-name:2")
    own.start()
    assert [name for name in names if not own.client.shows(name, "1", digest(own.store, f"{name}:1"))] == []
    assert own.client.shows("another-name", "2", digest(own.store, "early0:1"))
    assert "INFO ready published=5 failed=0" in own.said()


def test_a_service_of_podman_that_podbridge_started_goes_with_it(own: Service) -> None:
    own.store.build("localhost/hello:1")
    own.start()
    assert eventually(lambda: podman_of(own))
    assert own.end() == 0, own.said()
    eventually(lambda: processes_on(own.store.directory, "system service") == [])
    assert not own.socket.exists()


def podman_of(own: Service) -> int | None:
    """Return the podman service that podbridge runs now.

    A podman that starts a program of its own is two of the same words for a moment, until the child is that
    program: only podbridge's own child counts.
    """
    assert own.process is not None
    children = Path(f"/proc/{own.process.pid}/task/{own.process.pid}/children").read_text(encoding="utf-8").split()
    found = {int(child) for child in children}.intersection(processes_on(own.store.directory, "system service"))
    return found.pop() if len(found) == 1 else None


def test_a_service_of_podman_that_podbridge_started_is_started_again_when_it_dies(own: Service) -> None:
    own.start()
    podman = eventually(lambda: podman_of(own))
    assert podman is not None
    os.kill(podman, signal.SIGKILL)
    own.store.build("localhost/after:1")
    eventually(lambda: own.client.shows("after", "1", digest(own.store, "after:1")))
    assert eventually(lambda: podman_of(own)) != podman


def test_the_tree_converges_when_podman_returns_and_pulls_work_meanwhile(own: Service) -> None:
    store, path = own.store, own.store.directory / "podman.sock"
    own.configure({"podman": {"socket": f"unix://{path}", "command": store.command}})
    store.build("localhost/before:1")
    with podman_service(store, path) as podman:
        own.start()
        podman.send_signal(signal.SIGKILL)
        eventually(lambda: "NO " in own.ask("status").stdout)
        store.podman("tag", "localhost/before:1", "localhost/meanwhile:1")
        store.podman("untag", "localhost/before:1", "localhost/before:1")
        assert own.client.digest("before", "1") is not None, "nothing is withdrawn for a podman that is away"
        assert own.ask("status").returncode == 1
    with podman_service(store, path):
        eventually(lambda: own.client.shows("meanwhile", "1", digest(store, "meanwhile:1")))
        eventually(lambda: own.client.digest("before", "1") is None)
        eventually(lambda: own.ask("status").returncode == 0)
        assert own.said().count("condition=PodmanReachable reason=Unreachable") == 1, "one warning, not a stream"
        assert "Traceback" not in own.said()
        assert own.end() == 0
    assert processes_on(store.directory, "system service") == []


def test_it_starts_where_podman_does_not_answer_yet_and_serves_what_the_tree_held(own: Service) -> None:
    store, path = own.store, own.store.directory / "podman.sock"
    store.build("localhost/held:1")
    own.tell("sync")
    own.configure({"podman": {"socket": f"unix://{path}", "command": store.command}})
    own.begin()
    eventually(lambda: "INFO serving" in own.said())
    assert own.client.shows("held", "1", digest(store, "held:1"))
    assert "INFO ready" not in own.said()
    with podman_service(store, path):
        eventually(lambda: "INFO ready" in own.said())
        assert own.end() == 0


def test_a_kill_and_a_restart_converge_and_leave_nothing_half(own: Service) -> None:
    own.store.build("localhost/first:1")
    own.tell("sync")
    own.store.build_large("localhost/large:1", 200)
    own.begin()  # now: podman may take longer to end the build than podbridge to publish it
    eventually(lambda: own.staged() > 1_000_000)
    own.end(signal.SIGKILL)
    eventually(lambda: not processes_on(own.store.directory))
    own.store.podman("rmi", "localhost/first:1")
    assert own.ask("verify").stdout == "the tree is whole\n"
    own.start()
    assert own.client.digest("first", "1") is None
    assert own.client.shows("large", "1", digest(own.store, "large:1"))
    assert own.tell("verify") == "the tree is whole"
    eventually(lambda: not list((own.tree / "staging").iterdir()))


def test_a_tree_that_is_in_step_costs_no_export_at_the_next_start(own: Service) -> None:
    own.store.build("localhost/hello:1")
    own.tell("sync")
    own.start()
    assert "INFO published" not in own.said()
    assert own.tell("sync", "--dry-run") == "nothing to do"


def test_podbridge_registry_serves_a_tree_without_podman(own: Service) -> None:
    own.store.build("localhost/hello:1")
    own.tell("sync")
    other = Store(own.directory / "other")
    other.directory.mkdir()
    own.start("registry", "--tree", str(own.tree))
    other.podman("pull", "--quiet", "--tls-verify=false", f"{own.address}/hello:1")
    assert other.digest(f"{own.address}/hello:1") == digest(own.store, "hello:1")
    assert processes_on(own.store.directory, "system service") == []
    assert own.end(signal.SIGINT) == 0


def test_podbridge_registry_shows_what_another_process_publishes(own: Service) -> None:
    own.start("registry")
    own.store.build("localhost/hello:1")
    assert own.client.digest("hello", "1") is None
    own.tell("sync")
    assert own.client.shows("hello", "1", digest(own.store, "hello:1"))


def test_a_pull_under_way_finishes_while_the_service_stops(own: Service) -> None:
    own.store.build_large("localhost/large:1", 60)
    own.start()
    (layer,) = own.client.get("/v2/large/manifests/1").json["layers"]
    host, port = own.address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(f"GET /v2/large/blobs/{layer['digest']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert own.process is not None
        own.process.terminate()
        eventually(lambda: not _accepts(own.address))
        received = len(body)
        while received < layer["size"] and (chunk := connection.recv(1 << 20)):
            received += len(chunk)
    assert received == layer["size"]
    assert own.process.wait(SOON) == 0
    assert "Traceback" not in own.said()


def _accepts(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_second_service_on_the_same_tree_is_refused_with_the_firsts_pid(own: Service) -> None:
    own.start()
    assert own.process is not None
    done = podbridge("--config", own.file, "serve", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    said = f"another podbridge, pid {own.process.pid}, publishes into {own.tree}: stop it first, or name another tree"
    assert done.stderr == f"podbridge: {said}\n"
