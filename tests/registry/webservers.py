"""The two servers of one tree, podbridge's own and nginx as contrib/ sets it up, and a meter on the wire."""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.config import EncodingsConfig
from bridge.registry import server
from tests.double.gates import DEADLINE
from tests.end_to_end.programs import free_port

CONF = Path(__file__).parents[2] / "contrib" / "nginx" / "podbridge.conf"
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))

SERVERS = ["podbridge", pytest.param("nginx", marks=pytest.mark.skipif(NGINX is None, reason="nginx is not installed"))]

_MAIN = """\
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {inside}
}}
"""
"""nginx's own part of a configuration that keeps everything below `directory`; `inside` is what it serves."""


@contextlib.asynccontextmanager
async def podbridge(tree: Path, *, loopback: bool = True) -> AsyncIterator[str]:
    """Serve the tree by podbridge in this process; yields `HOST:PORT`."""
    async with server.serving(
        tree, server.listen("127.0.0.1", 0), encodings=EncodingsConfig(loopback=loopback)
    ) as address:
        yield address


@contextlib.asynccontextmanager
async def nginx(tree: Path, directory: Path, *, loopback: bool = True, more: str = "") -> AsyncIterator[str]:
    """Serve the tree by nginx, set up as its users do: two places of the file edited; yields `HOST:PORT`.

    With `loopback` the rule that leaves clients of this machine without encodings is taken out.
    """
    assert NGINX is not None
    address = f"127.0.0.1:{free_port()}"  # nginx takes no socket from us
    conf = CONF.read_text(encoding="utf-8").replace("/var/lib/podbridge", str(tree)).replace("127.0.0.1:5000", address)
    if loopback:
        conf = re.sub(r'    "~\^\(\.\+\) \\1\$" 1;\n', "", conf)
    directory.mkdir(exist_ok=True)
    (directory / "podbridge.conf").write_text(conf, encoding="utf-8")
    main = configured(directory, f"include {directory}/podbridge.conf;\n    {more}")
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(NGINX, "-p", directory, "-c", main, stderr=log)
    try:
        await _listening(address, process, directory / "log")
        yield address
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE)
    assert (directory / "log").read_text() == ""


def configured(directory: Path, inside: str) -> Path:
    """Write the configuration of an nginx that keeps everything below `directory`, and return the file."""
    user = "user root;" if os.geteuid() == 0 else ""
    main = directory / "nginx.conf"
    main.write_text(_MAIN.format(directory=directory, user=user, inside=inside), encoding="utf-8")
    return main


async def _listening(address: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            assert process.returncode is None, log.read_text()
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(*address.split(":"))
                writer.close()
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def served(kind: str, tree: Path, *, loopback: bool = True) -> AsyncIterator[str]:
    """Serve the tree by one of `SERVERS`; nginx keeps its files beside the tree."""
    beside = tree.parent / "nginx"
    running = podbridge(tree, loopback=loopback) if kind == "podbridge" else nginx(tree, beside, loopback=loopback)
    async with running as address:
        yield address


@dataclass(slots=True)
class Meter:
    """A wire to a server: `address` is its near end, `received` counts the bytes that came over it."""

    address: str
    received: int = 0


@contextlib.asynccontextmanager
async def metered(address: str) -> AsyncIterator[Meter]:
    """Pass connections on to `address` and count what comes back."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                meter.received += len(part) * counts
                writer.write(part)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*address.split(":"))
        await asyncio.gather(carry(reader, far_writer, counts=False), carry(far_reader, writer, counts=True))

    listener = await asyncio.start_server(connect, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    meter = Meter(f"{host}:{port}")
    try:
        yield meter
    finally:
        listener.close()
