"""The servers of one image, all on the first core: podbridge, docker-registry, nginx with plain files, bare aiohttp."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.programs import PATIENCE, free_port, run
from tests.registry.webservers import NGINX, configured

from .loads import Target
from .service import running, wait_for_port

PINNED = ("taskset", "-c", "0")

_NGINX = """\
sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    server {{ listen 127.0.0.1:{port}; root {root}; }}"""

_BARE = """\
import asyncio, sys
from pathlib import Path
from aiohttp import web

kind, port = sys.argv[1], int(sys.argv[2])
contents = {f"/v2/app/{name}": Path(file).read_bytes() for name, file in zip(sys.argv[3::2], sys.argv[4::2])}

async def answer(request):
    return web.Response(body=contents[request.path], content_type=kind)

async def main():
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextmanager
def _started(command: list[str], port: int, log: Path) -> Iterator[Target]:
    with log.open("wb") as output, running([*PINNED, *command], output.fileno()) as process:
        try:
            wait_for_port(process, port)
        except (RuntimeError, TimeoutError) as error:
            error.add_note(log.read_text(encoding="utf-8"))
            raise
        yield Target(process.pid, port)


@contextmanager
def podbridge(tree: Path, directory: Path) -> Iterator[Target]:
    """Serve the tree by `podbridge registry` with one worker."""
    port = free_port()
    file = directory / "podbridge.yaml"
    registry = {"listen": f"127.0.0.1:{port}", "workers": 1}
    file.write_text(json.dumps({"tree": str(tree), "registry": registry}), encoding="utf-8")
    command = [sys.executable, "-m", "bridge", "registry", "--config", str(file)]
    with _started(command, port, directory / "podbridge.log") as target:
        yield target


@contextmanager
def docker_registry(tree: Path, directory: Path, repositories: list[str]) -> Iterator[Target]:
    """Serve tag 1 of the repositories by docker-registry, to which skopeo copies them as they are."""
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "docker")},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    file = directory / "docker.yml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    with _started(["docker-registry", "serve", str(file)], port, directory / "docker.log") as target:
        for name in repositories:
            layout = f"oci:{tree / 'repositories' / name / '_oci'}:1"
            command = [
                "skopeo",
                "--insecure-policy",
                "copy",
                "--quiet",
                "--preserve-digests",
                "--dest-tls-verify=false",
            ]
            run(*command, layout, f"docker://127.0.0.1:{port}/{name}:1", timeout=PATIENCE)
        yield target


@contextmanager
def nginx(tree: Path, directory: Path, repositories: list[str]) -> Iterator[Target]:
    """Serve the same bytes by nginx, as plain files at the paths of the registry's API."""
    assert NGINX is not None
    port, root = free_port(), directory / "plain"
    for name in repositories:
        layout = tree / "repositories" / name / "_oci"
        blobs, manifests = root / "v2" / name / "blobs", root / "v2" / name / "manifests"
        blobs.mkdir(parents=True)
        manifests.mkdir()
        for blob in (layout / "blobs" / "sha256").iterdir():
            os.link(blob, blobs / f"sha256:{blob.name}")
        (tagged,) = json.loads((layout / "index.json").read_bytes())["manifests"]
        os.link(layout / "blobs" / tagged["digest"].replace(":", "/"), manifests / "1")
    conf = configured(directory, _NGINX.format(port=port, root=root))
    with _started([NGINX, "-p", str(directory), "-c", str(conf)], port, directory / "nginx.log") as target:
        yield target


@contextmanager
def bare(directory: Path, contents: dict[str, Path]) -> Iterator[Target]:
    """Answer `/v2/app/<key>` with constants by a bare aiohttp server."""
    port = free_port()
    program = directory / "bare.py"
    program.write_text(_BARE, encoding="utf-8")
    words = [word for name, file in contents.items() for word in (name, str(file))]
    command = [sys.executable, str(program), "application/vnd.oci.image.manifest.v1+json", str(port), *words]
    with _started(command, port, directory / "bare.log") as target:
        yield target
