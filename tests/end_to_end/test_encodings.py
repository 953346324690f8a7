"""The service keeps its blobs encoded, in the background, and needs none of it."""

import contextlib
import gzip
import os
import shutil
import subprocess

import pytest

from tests.end_to_end.programs import IDLE, eventually, processes_on
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store

pytestmark = pytest.mark.timeout(1000)  # what encodes runs at idle priority

LOOPBACK = {"encodings": {"loopback": True}}


def build(store: Store, name: str) -> None:
    store.build(name, "".join(f"{name}: line {number} of what shrinks\n" for number in range(20_000)))


def pulled(service: Service, name: str) -> bool:
    """Pull the layer as a client that takes gzip, and say whether it came encoded."""
    manifest = service.client.get(f"/v2/{name}/manifests/1").json
    layer = manifest["layers"][0]
    response = service.client.get(f"/v2/{name}/blobs/{layer['digest']}", headers={"Accept-Encoding": "gzip"})
    encoded = response.headers.get("content-encoding") == "gzip"
    content = gzip.decompress(response.body) if encoded else response.body
    assert (response.status, response.digest, len(content)) == (200, layer["digest"], layer["size"])
    return encoded


def encoders(service: Service) -> list[int]:
    """Return what encodes for a service now, and give it the priority of others: idle, it would wait for their end."""
    found = processes_on(service.directory, "bridge.tree.encoder")
    for process in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.sched_setscheduler(process, os.SCHED_OTHER, os.sched_param(0))
    return found


def comes_encoded(service: Service, *names: str) -> bool:
    encoders(service)
    return all(pulled(service, name) for name in names)


def at_rest(service: Service) -> None:
    """Wait until no program encodes: one that is at work could make again what the test drops."""
    eventually(lambda: not encoders(service), IDLE)


def test_a_layer_is_encoded_after_it_was_published_and_again_after_all_were_dropped(own: Service) -> None:
    own.configure(LOOPBACK)
    own.start()
    at_rest(own)
    build(own.store, "localhost/first:1")
    eventually(lambda: own.client.digest("first", "1"))
    eventually(lambda: comes_encoded(own, "first"), IDLE)
    at_rest(own)
    shutil.rmtree(own.tree / "encoded")
    assert not pulled(own, "first")
    build(own.store, "localhost/second:1")
    eventually(lambda: own.client.digest("second", "1"))
    eventually(lambda: comes_encoded(own, "first", "second"), IDLE)
    assert own.end() == 0
    assert "WARNING" not in own.said()


def test_a_start_makes_what_is_missing_and_no_space_means_none(own: Service) -> None:
    own.configure({"encodings": {"space": "0MB", "loopback": True}})
    own.start()
    build(own.store, "localhost/app:1")
    eventually(lambda: own.client.digest("app", "1"))
    assert not pulled(own, "app")
    assert own.end() == 0
    assert not (own.tree / "encoded").exists()
    own.configure(LOOPBACK)
    own.start()
    eventually(lambda: comes_encoded(own, "app"), IDLE)
    assert own.end() == 0


def test_a_sync_encodes_where_it_is_told_to(own: Service) -> None:
    build(own.store, "localhost/app:1")
    assert own.tell("sync") == f"1 published in {own.tree}"
    assert not (own.tree / "encoded").exists()
    with subprocess.Popen(own.command("sync", "--encode"), stdout=subprocess.DEVNULL) as process:
        eventually(lambda: not encoders(own) and process.poll() is not None, IDLE)
    assert process.returncode == 0
    assert len(list((own.tree / "encoded" / "gzip").iterdir())) == 1
