"""`podbridge serve` as a subprocess on a store, a tree and a port of its own, and a client for its registry."""

import http.client
import json
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.end_to_end.programs import PODBRIDGE, SOON, ask, eventually, free_port, run
from tests.end_to_end.stores import Store


@dataclass(frozen=True, slots=True)
class Response:
    """What a registry answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The OCI code of an error."""
        return str(self.json["errors"][0]["code"])

    @property
    def digest(self) -> str:
        """What the header says of the content."""
        return self.headers["docker-content-digest"]


class Client:
    """A client of a registry: one connection for each request, and no redirects, retries or normalisation."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
        """Send one request."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            told = {key.lower(): value for key, value in response.getheaders()}
            return Response(response.status, told, response.read())
        finally:
            connection.close()

    def digest(self, repository: str, tag: str) -> str | None:
        """Return the digest of what a tag shows; None where it shows nothing."""
        response = self.get(f"/v2/{repository}/manifests/{tag}")
        if response.status == 404:
            return None
        assert response.status == 200, response
        return response.digest

    def shows(self, repository: str, tag: str, digest: str) -> bool:
        """Say whether a tag shows that digest."""
        return self.digest(repository, tag) == digest


class Service:
    """One configuration of podbridge below `directory`, and the service that runs with it."""

    def __init__(self, store: Store, directory: Path, settings: Mapping[str, Any] | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.store = store
        self.directory = directory
        self.tree = directory / "tree"
        self.socket = directory / "c.sock"
        self.address = f"127.0.0.1:{free_port()}"
        self.client = Client(self.address)
        self.file = directory / "podbridge.yaml"
        self.log = directory / "log"
        self.configure(settings or {})
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration."""
        values = {
            "podman": {"command": self.store.command},
            "tree": str(self.tree),
            "registry": {"listen": self.address, "workers": 1},
            "control": {"socket": str(self.socket)},
            **settings,
        }
        self.file.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML

    def command(self, *words: str) -> list[str]:
        """Return a command line with this configuration."""
        return [*PODBRIDGE, "--config", str(self.file), *words]

    def tell(self, *words: str) -> str:
        """Run a verb that must succeed."""
        return run(*self.command(*words))

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb that may fail."""
        return ask(*self.command(*words))

    def begin(self, *words: str) -> Self:
        """Start it, and wait for nothing."""
        with self.log.open("wb") as log:
            command = self.command(*(words or ("serve",)))
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def start(self, *words: str) -> Self:
        """Start it, and wait until it says that it is ready, or, as a registry only, that it serves."""
        self.begin(*words)
        sign = "INFO serving" if words and words[0] == "registry" else "INFO ready"
        eventually(lambda: sign in self.said() or self._ended())
        return self

    def _ended(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        return False

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text(encoding="utf-8")

    def staged(self) -> int:
        """Return how many bytes lie in staging."""
        try:
            return sum(path.stat().st_size for path in (self.tree / "staging").rglob("*") if path.is_file())
        except FileNotFoundError:
            return 0

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = SOON) -> int:
        """Send it a signal, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            assert self.end() == 0, self.said()
