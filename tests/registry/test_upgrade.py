"""Requests behind one that asks for another protocol: a server that ignores `Upgrade` goes on (RFC 9110, 7.8)."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.oci import Digest
from tests.registry.entrance import Certificates, dialled, guarded
from tests.registry.trees import Shelf
from tests.registry.wires import Line
from tests.registry.wires import dialled as dialled_plainly

LAYER = b"layer" * 100
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
UPGRADES = {
    "h2c": H2C,
    "tls": ("Connection: Upgrade", "Upgrade: TLS/1.0"),
    "websocket": WEBSOCKET,
    "several": ("Connection: keep-alive, Upgrade", "Upgrade: h2c, websocket, TLS/1.2"),
}


@pytest.fixture(params=[False, True], ids=["plain", "with TLS"])
async def line(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Line]:
    """A connection to a registry with an image."""
    shelf = Shelf(tmp_path / "tree")
    shelf.image("app:1", LAYER)
    certificates = Certificates.make(tmp_path / "tls") if request.param else None
    async with guarded(shelf.root, tls=certificates.settings() if certificates else None) as address:
        trusted = certificates.trusted() if certificates else None
        async with _dialled(address, trusted) as line:
            yield line


def _dialled(address: str, trusted: ssl.SSLContext | None) -> contextlib.AbstractAsyncContextManager[Line]:
    return dialled_plainly(address) if trusted is None else dialled(address, trusted)


def request(path: str, *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode() + body


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_what_is_in_the_buffer_behind_an_upgrade_is_answered(line: Line, upgrade: str, method: str) -> None:
    blob = f"/v2/app/blobs/{Digest.of(LAYER)}"
    await line.send(request("/v2/", *UPGRADES[upgrade], method=method) + request("/v2/app/tags/list") + request(blob))
    assert (await line.answer(method)).status == (405 if method == "POST" else 200)
    assert (await line.answer()).json == {"name": "app", "tags": ["1"]}
    assert (await line.answer()).body == LAYER
    assert (await line.ask("/v2/")).status == 200


@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_several_upgrades_in_one_buffer_are_all_ignored(line: Line, upgrade: str) -> None:
    await line.send(request("/v2/app/tags/list", *UPGRADES[upgrade]) * 40)
    assert [(await line.answer()).status for _ in range(40)] == [200] * 40


async def test_an_upgrade_that_comes_byte_by_byte_is_ignored(line: Line) -> None:
    for byte in request("/v2/", *H2C) + request("/v2/app/tags/list"):
        await line.send(bytes([byte]))
    assert ((await line.answer()).json, (await line.answer()).json["tags"]) == ({}, ["1"])
