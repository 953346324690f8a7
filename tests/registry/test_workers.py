"""The processes that answer pulls: none is missed when it dies, none outlives its parent, and they count together."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bridge.config import AuthConfig
from bridge.errors import ConfigError, ListenError
from bridge.oci import Digest
from bridge.registry import place
from bridge.tree.encodings import encode
from tests.double.gates import DEADLINE
from tests.end_to_end.programs import PODBRIDGE, eventually, free_port
from tests.registry.crews import kill, loaded, manned, resident, runs, settings, sockets
from tests.registry.entrance import Certificates, accounts, basic, entry
from tests.registry.entrance import dialled as dialled_with_tls
from tests.registry.trees import Shelf
from tests.registry.wires import ask, children, dialled, until

LARGE = os.urandom(1 << 20) * 60
PATH = "/v2/app/manifests/1"
ANN = basic("ann", "secret")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "tree")
    shelf.image("app:1", b"a layer")
    return shelf


async def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(shelf: Shelf) -> None:
    async with manned(settings(shelf.root)) as crew:
        before = crew.processes
        async with loaded(crew.address, PATH) as load:
            await until(lambda: load.answered > 100)
            kill(before[0])
            await until(lambda: len(crew.processes) == 2 and before[0] not in crew.processes)
            answered = load.answered
            await until(lambda: load.answered > answered + 100)
            assert len(load.failures) <= 8, load.failures  # those that the dead one was answering
        assert before[1] in crew.processes


async def test_workers_that_die_at_once_again_and_again_are_no_stream_of_warnings(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    async with manned(settings(shelf.root, workers=1)) as crew:
        for _ in range(4):
            (pid,) = crew.processes
            kill(pid)
            await until(lambda pid=pid: bool(crew.processes) and crew.processes != [pid])  # type: ignore[misc]
        assert (await ask(crew.address, PATH)).status == 200
    said = [record.getMessage().partition(" how=")[0] for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["registry worker died, replaced", "registry workers die at once, tried again with pauses"]


async def test_a_worker_that_cannot_start_is_an_error_at_the_start(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ListenError, match="a registry worker did not start: exit code 1"):
        async with manned(settings(shelf.root)):
            pass


def test_workers_die_with_their_parent_and_leave_its_address(shelf: Shelf, tmp_path: Path) -> None:
    command = [*PODBRIDGE, "registry", "--tree", str(shelf.root), "--listen", f"127.0.0.1:{free_port()}"]
    for number in range(2):
        log = tmp_path / f"log{number}"
        with log.open("wb") as output:
            parent = subprocess.Popen(command, stdout=output, stderr=output)
        eventually(lambda log=log: "serving registry=" in log.read_text())  # type: ignore[misc]
        workers = children(parent.pid)
        assert len(workers) == len(os.sched_getaffinity(0))
        assert {
            Path(f"/proc/{pid}/cmdline").read_bytes().count(b"/") - sys.executable.count("/") for pid in workers
        } == {0}
        parent.kill()
        parent.wait()
        if number:
            eventually(lambda workers=workers: not any(map(runs, workers)))  # type: ignore[misc]


async def test_a_reload_under_load_loses_no_request(shelf: Shelf, tmp_path: Path) -> None:
    shelf.image("large:1", LARGE)
    file = accounts(tmp_path, entry("ann", "secret"))
    open_to_all = AuthConfig(htpasswd=file, anonymous=("*",))
    async with manned(settings(shelf.root)) as crew, dialled(crew.address) as slow:
        before = crew.processes
        await slow.send(f"GET /v2/large/blobs/{Digest.of(LARGE)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with loaded(crew.address, PATH) as load:
            await until(lambda: load.answered > 100)
            reloading = asyncio.create_task(crew.reload(settings(shelf.root, auth=open_to_all, workers=3)))
            pulled = await slow.answer()
            await reloading
            answered = load.answered
            await until(lambda: load.answered > answered + 100)
        assert load.failures == []
        assert pulled.body == LARGE
        assert len(crew.processes) == 3
        assert not any(map(runs, before))
        assert (await ask(crew.address, PATH, Authorization=basic("ann", "wrong"))).status == 401


async def test_a_reload_with_settings_that_cannot_be_used_changes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    async with manned(settings(shelf.root)) as crew:
        before = crew.processes
        with pytest.raises(ConfigError, match="no-such-file"):
            await crew.reload(settings(shelf.root, auth=AuthConfig(htpasswd=tmp_path / "no-such-file")))
        assert crew.processes == before
        assert (await ask(crew.address, PATH)).status == 200


async def test_an_orderly_end_answers_what_was_asked_and_closes_what_is_idle(shelf: Shelf) -> None:
    shelf.image("large:1", LARGE)
    async with contextlib.AsyncExitStack() as stack:
        crew = await stack.enter_async_context(manned(settings(shelf.root)))
        slow, idle, late = [await stack.enter_async_context(dialled(crew.address)) for _ in range(3)]
        for line in (idle, late):
            assert (await line.ask(PATH)).status == 200
        await slow.send(f"GET /v2/large/blobs/{Digest.of(LARGE)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        processes = crew.processes
        stopping = asyncio.create_task(crew.stop())
        assert (await late.ask(PATH)).status == 200
        assert await late.closed()
        assert await idle.closed()
        assert (await slow.answer()).body == LARGE
        await stopping
        assert not any(map(runs, processes))


async def test_traffic_is_that_of_all_workers_the_dead_ones_included(shelf: Shelf) -> None:
    text = b"a layer that shrinks " * 10_000
    shelf.image("text:1", text)
    encode(shelf.root, 10**9)
    async with manned(settings(shelf.root, loopback=True)) as crew:
        sizes = 0
        for _ in range(10):
            sizes += len((await ask(crew.address, PATH)).body)
        assert (await ask(crew.address, PATH, "HEAD")).status == 200
        missing = len((await ask(crew.address, "/v2/app/manifests/none")).body)
        blob = await ask(crew.address, f"/v2/text/blobs/{Digest.of(text)}", Accept_Encoding="gzip")
        async with dialled(crew.address) as line:
            await line.send(b"no http\r\n\r\n")
            malformed = len((await line.answer()).body)
        async with dialled(crew.address) as line:
            await line.ask(PATH)
            sizes += int((await line.ask(PATH)).headers["content-length"]) * 2
            # each worker tells by itself what has ended: the last of the connections before may be told later
            await until(lambda: crew.traffic.requests == {200: 14, 404: 1, 400: 1} and crew.traffic.connections == 1)
        expected = {"identity": sizes + missing + malformed, "gzip": len(blob.body)}
        await until(lambda: crew.traffic.connections == 0)
        assert (crew.traffic.sent, crew.traffic.under_way) == (expected, 0)
        last, killed = crew.traffic.last, set(crew.processes)
        for pid in killed:
            kill(pid)
        await until(lambda: len(set(crew.processes) - killed) == 2)
        await crew.reload(settings(shelf.root))
        assert crew.traffic.requests == {200: 14, 404: 1, 400: 1}
        assert (crew.traffic.sent, crew.traffic.last) == (expected, last)


async def test_a_pull_under_way_is_counted_and_what_was_cut_as_far_as_it_went(shelf: Shelf) -> None:
    shelf.image("large:1", LARGE)
    async with manned(settings(shelf.root)) as crew:
        async with dialled(crew.address) as line:
            await line.send(f"GET /v2/large/blobs/{Digest.of(LARGE)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await until(lambda: crew.traffic.under_way == 1)
        await until(lambda: crew.traffic.under_way == 0)
        assert crew.traffic.requests == {200: 1}
        assert 0 < crew.traffic.sent["identity"] < len(LARGE)


async def test_a_tag_that_moves_is_never_stale_or_mixed_in_any_worker(shelf: Shelf) -> None:
    async with manned(settings(shelf.root, workers=3)) as crew, loaded(crew.address, PATH) as load:
        async with asyncio.timeout(2 * DEADLINE):
            while min(map(sockets, crew.processes)) < 6:  # of which its own are four: each has clients of its own
                answered = load.answered
                load.more()
                await until(lambda seen=answered: load.answered >= seen + load.clients)  # type: ignore[misc]
        for number in range(60):
            expected = str((await asyncio.to_thread(shelf.image, "app:1", f"layer {number}".encode())).digest)
            moved = len(load.digests)
            answers = await asyncio.gather(*(ask(crew.address, PATH) for _ in range(6)))
            assert {answer.headers["docker-content-digest"] for answer in answers} == {expected}
            # each client may have had one answer on its way when the tag moved; the next one is never older
            assert set(load.digests[moved + load.clients :]) <= {expected}
        assert load.failures == []
        assert len(Counter(load.digests)) > 30


async def test_a_workers_log_goes_where_the_parents_goes(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    (shelf.root / "repositories" / "app" / "_oci" / "index.json").write_bytes(b"{")
    async with manned(settings(shelf.root)) as crew:
        assert (await ask(crew.address, PATH)).status == 500
        await until(lambda: any("index.json is damaged" in record.getMessage() for record in caplog.records))
    (record,) = (record for record in caplog.records if record.name == "bridge.registry.app")
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith(f"tree cannot be read path='{PATH}' error=")


async def test_the_access_log_has_a_line_for_each_request_and_no_credential(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    auth = AuthConfig(htpasswd=accounts(tmp_path, entry("ann", "secret")))
    async with manned(settings(shelf.root, auth=auth, access_log=True)) as crew:
        size = len((await ask(crew.address, f"{PATH}?token=secret2", Authorization=ANN)).body)
        await ask(crew.address, "http://ann:secret3@x/v2/", Authorization=basic("ann", "secret4"))
        await ask(crew.address, PATH, "HEAD", Authorization=ANN)
    lines = [record.getMessage() for record in caplog.records if record.name == "bridge.registry.access_log"]
    assert sorted(line.partition(" seconds=")[0] for line in lines) == [  # each worker tells of its own requests
        f"request peer=127.0.0.1 user='ann' method=GET path='{PATH}' status=200 bytes={size} coding=identity",
        f"request peer=127.0.0.1 user='ann' method=HEAD path='{PATH}' status=200 bytes=0 coding=identity",
        "request peer=127.0.0.1 user=None method=GET path='/v2/' status=401 bytes=105 coding=identity",
    ]
    assert not any("secret" in line or ANN.partition(" ")[2] in line for line in lines)


async def test_a_worker_stays_below_60_megabytes(shelf: Shelf, tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "tls")
    auth = AuthConfig(htpasswd=accounts(tmp_path, entry("ann", "secret")), anonymous=("*",))
    layers = [os.urandom(60_000) for _ in range(300)]  # more than a worker keeps
    shelf.image("many:1", *layers, LARGE)
    trusted = certificates.trusted()
    async with manned(settings(shelf.root, workers=1, auth=auth, tls=certificates.settings())) as crew:
        lines = [await asyncio.open_connection(*crew.address.split(":"), ssl=trusted) for _ in range(10)]
        async with dialled_with_tls(crew.address, trusted) as line:
            for layer in [*layers, LARGE]:
                assert (await line.ask(f"/v2/many/blobs/{Digest.of(layer)}", Authorization=ANN)).body == layer
        assert 30_000_000 < resident(crew.processes[0]) < 60_000_000
        for _, writer in lines:
            writer.transport.abort()


@pytest.mark.parametrize(
    ("host", "auth", "missing"),
    [
        ("127.0.0.1", False, []),
        ("0.0.0.0", False, ["registry.auth", "registry.tls"]),
        ("0.0.0.0", True, ["registry.tls"]),
    ],
)
async def test_an_open_registry_is_told_once_at_the_start(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, auth: bool, missing: list[str]
) -> None:
    rules = AuthConfig(htpasswd=accounts(tmp_path, entry("ann", "secret"))) if auth else None
    async with manned(settings(shelf.root, auth=rules), host) as crew:
        for _ in range(2):
            await ask(crew.address.replace("0.0.0.0", "127.0.0.1"), "/v2/")
        before = set(crew.processes)
        kill(crew.processes[0])
        await until(lambda: len(crew.processes) == 2 and set(crew.processes) != before)
    ours = [record for record in caplog.records if record.name.startswith("bridge.")]
    warned = [record.getMessage() for record in ours if record.levelno == logging.WARNING]
    told = [message for message in warned if "died" not in message]
    assert [message.partition("missing=")[2].partition(":")[0] for message in told] == missing


async def test_a_worker_that_is_stopped_is_replaced_and_told(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(place, "PULSE", 0.2)
    monkeypatch.setattr(place, "SILENCE", 3.0)
    async with manned(settings(shelf.root)) as crew:
        stopped = crew.processes[0]
        os.kill(stopped, signal.SIGSTOP)
        await until(lambda: not runs(stopped) and len(crew.processes) == 2)
        assert f"registry worker does not answer, killed pid={stopped}" in caplog.text
        assert (await ask(crew.address, PATH)).status == 200
