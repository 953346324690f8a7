"""podbridge as the benchmarks run it: the installed command, on a store, a tree and a port of its own."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.end_to_end.programs import free_port
from tests.end_to_end.stores import Store

LOOPBACK = "127.0.0.1"
READY = 30.0
"""Seconds for a server to begin to answer."""
STOP = 30.0
"""Seconds for a server to end after SIGTERM."""
REF_NAME = "org.opencontainers.image.ref.name"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Podbridge:
    """A configuration of podbridge below `directory`; it starts and stops a podman service of its own."""

    directory: Path
    port: int

    @classmethod
    def configure(cls, store: Store, directory: Path) -> Self:
        """Write the configuration into a new directory."""
        directory.mkdir()
        bridge = cls(directory, free_port())
        settings = {
            "podman": {"command": store.command},
            "tree": str(bridge.tree),
            "registry": {"listen": f"{LOOPBACK}:{bridge.port}"},
            "control": {"socket": str(directory / "c.sock")},
        }
        # JSON is YAML.
        bridge.configuration.write_text(json.dumps(settings, indent=2), encoding="utf-8")
        return bridge

    @property
    def configuration(self) -> Path:
        """The configuration file."""
        return self.directory / "podbridge.yaml"

    @property
    def log(self) -> Path:
        """What the service printed."""
        return self.directory / "serve.log"

    @property
    def tree(self) -> Path:
        """The published tree."""
        return self.directory / "tree"

    def command(self, verb: str) -> list[str]:
        """Return the words that run a verb of podbridge, as it is installed for this Python."""
        script = Path(sys.executable).with_name("podbridge")
        program = [str(script)] if script.exists() else [sys.executable, "-m", "bridge"]
        return [*program, verb, "--config", str(self.configuration)]

    def check(self, images: Mapping[str, str]) -> None:
        """Make sure that the tree has these repositories and no others, each with the image of this ID as tag 1.

        Raises:
            RuntimeError: it does not.
        """
        layouts = (self.tree / "repositories").glob("*/_oci")
        published = {layout.parent.name: _image_id(layout) for layout in layouts}
        if published != images:
            message = f"published {published}, not {images}"
            raise RuntimeError(message)

    @contextmanager
    def serve(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service, from when its registry answers."""
        with (
            self.log.open("wb") as log,
            running(self.command("serve"), log.fileno()) as process,
        ):
            try:
                wait_for_port(process, self.port)
                yield process
            except (RuntimeError, TimeoutError) as error:
                error.add_note(self.log.read_text(encoding="utf-8"))
                raise


class Puller:
    """A client of a registry on one kept connection, which asks every millisecond."""

    INTERVAL = 0.001

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=READY)

    def wait_for(self, repository: str, tag: str, image: str, timeout: float = 60.0) -> None:
        """Return when the manifest behind a tag is the one of the image with this ID.

        Raises:
            TimeoutError: it is not, after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while self.image_id(repository, tag) != image:
            if time.monotonic() > deadline:
                message = f"{repository}:{tag} is not image {image} after {timeout} s"
                raise TimeoutError(message)
            time.sleep(self.INTERVAL)

    def image_id(self, repository: str, tag: str) -> str | None:
        """Return the ID of the image behind a tag, or None where the registry answers anything but 200."""
        self._connection.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != http.HTTPStatus.OK:
            return None
        digest: str = json.loads(body)["config"]["digest"]
        return digest.removeprefix("sha256:")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def running(command: list[str], log: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and stop it with SIGTERM, or SIGKILL where that does not help within `STOP`."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when a server accepts connections.

    Raises:
        RuntimeError: it ended instead.
        TimeoutError: it did neither within `READY`.
    """
    deadline = time.monotonic() + READY
    while process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex((LOOPBACK, port)) == 0:
                return
        if time.monotonic() > deadline:
            message = f"nobody listens on port {port} after {READY} s"
            raise TimeoutError(message)
        time.sleep(0.01)
    message = f"{process.args!r} ended with {process.returncode}"
    raise RuntimeError(message)


def _image_id(layout: Path) -> str:
    index = json.loads((layout / "index.json").read_bytes())
    (tagged,) = (item for item in index["manifests"] if item["annotations"].get(REF_NAME) == "1")
    manifest = layout / "blobs" / tagged["digest"].replace(":", "/")
    config: str = json.loads(manifest.read_bytes())["config"]["digest"]
    return config.removeprefix("sha256:")
