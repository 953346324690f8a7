"""A podman double, a tree, and podbridge between them; what a test may see of the three."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bridge import config
from bridge.service.serve import running
from bridge.service.settings import Settings
from bridge.service.steering import Steering
from bridge.systemd import Sockets
from tests.double import server
from tests.double.gates import DEADLINE, eventually
from tests.double.store import Double

TAG = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command of podbridge said."""

    code: int
    output: str
    errors: str


@dataclass(slots=True)
class World:
    """Everything below `directory`; `settings` go over the configuration that the tests begin with."""

    directory: Path
    double: Double
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        """The published tree."""
        return Path(self.settings.get("tree", self.directory / "tree"))

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.directory / "c"

    def configuration(self) -> Path:
        """Write the configuration file."""
        path = self.directory / "podbridge.yaml"
        values = {
            "podman": {"socket": f"unix://{self.double.socket}", "command": self.double.command},
            "tree": str(self.tree),
            "registry": {"listen": "127.0.0.1:0", "workers": 1},  # one a core costs more than the rest of a test
            "control": {"socket": str(self.control)},
        }
        path.write_text(json.dumps(values | self.settings))  # JSON is YAML
        return path

    @contextlib.asynccontextmanager
    async def podman(self) -> AsyncIterator[None]:
        """Run the double's service."""
        async with server.serving(self.double):
            yield

    @contextlib.asynccontextmanager
    async def service(self, *, ready: float = DEADLINE) -> AsyncIterator[Steering]:
        """Run podbridge in this process; the block begins when its first pass is through, within `ready` seconds."""
        async with running(Settings(config.load(self.configuration()).config), Sockets()) as steering:
            if ready:
                await asyncio.wait_for(steering.reconciler.ready.wait(), ready)
            yield steering

    def grace(self, service: Steering, seconds: float) -> None:
        """Change the grace period of the running service, as a reload does."""
        parts = service.reconciler.parts
        service.reconciler.follow(parts.policy, dataclasses.replace(parts.bounds, grace=seconds))

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """Start podbridge as a process of its own."""
        program = words if words[0].endswith(".py") else ("-m", "bridge", *words)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *program,
            f"--config={self.configuration()}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def command(self, *words: str) -> Answer:
        """Run a command of podbridge to its end."""
        process = await self.start(*words)
        output, errors = await asyncio.wait_for(process.communicate(), 2 * DEADLINE)
        assert process.returncode is not None
        return Answer(process.returncode, output.decode(), errors.decode())

    def indexes(self) -> Iterator[Path]:
        """Yield every index.json of the tree; what is removed meanwhile is left out."""
        for directory, _, names in os.walk(self.tree / "repositories"):
            if directory.endswith("/_oci") and "index.json" in names:
                yield Path(directory) / "index.json"

    def shown(self) -> dict[str, str]:
        """Return what the tree on disk shows: reference to image ID."""
        while True:
            with contextlib.suppress(FileNotFoundError):  # withdrawn and swept between two reads: look again
                return self._shown()

    def _shown(self) -> dict[str, str]:
        found = {}
        for index in self.indexes():
            repository = index.parent.parent.relative_to(self.tree / "repositories")
            for entry in json.loads(index.read_bytes())["manifests"]:
                if TAG in entry["annotations"]:
                    manifest = json.loads((index.parent / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
                    reference = f"{repository}:{entry['annotations'][TAG]}"
                    found[reference] = manifest["config"]["digest"].removeprefix("sha256:")
        return found

    async def shows(self, expected: dict[str, str]) -> None:
        """Wait until the tree shows exactly this."""
        await eventually(lambda: self.shown() == expected, what=f"the tree shows {sorted(expected)}")

    def staged(self) -> list[str]:
        """Return what lies in staging."""
        return sorted(path.name for path in (self.tree / "staging").iterdir())

    async def status(self) -> dict[str, Any]:
        """Return what the control API says, which is what `podbridge status --json` prints."""
        document: dict[str, Any] = await self.control_get("/status")
        return document

    async def condition(self, kind: str) -> dict[str, Any]:
        """Return one condition of the status."""
        (found,) = [one for one in (await self.status())["conditions"] if one["type"] == kind]
        return dict(found)

    async def failures(self) -> dict[str, str]:
        """Return the words for every reference that failed."""
        return {one["reference"]: one["message"] for one in (await self.status())["failures"]}

    async def has_no_failure(self) -> bool:
        """Say whether nothing has failed, or what had is done or not wanted any more."""
        return not await self.failures()

    async def pending(self, count: int) -> bool:
        """Say whether so many publications wait."""
        return bool((await self.status())["counts"]["pending"] == count)

    async def attempts(self, reference: str, count: int) -> bool:
        """Say whether a reference has failed so many times."""
        return (reference, count) in [(one["reference"], one["attempts"]) for one in (await self.status())["failures"]]

    async def failed(self, reference: str) -> str:
        """Wait until a reference has failed, and return the words."""
        told: dict[str, str] = {}

        async def has_failed() -> bool:
            told.update(await self.failures())
            return reference in told

        await eventually(has_failed, what=f"{reference} has failed")
        return told[reference]

    async def settled(self) -> None:
        """Wait until the service says that it is in step with podman."""

        async def synced() -> bool:
            return (await self.condition("Synced"))["status"] is True

        await eventually(synced, what="Synced")

    async def control_get(self, path: str) -> Any:
        """GET a document of the control API."""
        return await self.control_do("GET", path)

    async def control_do(self, method: str, path: str, body: object = None) -> Any:
        """Ask the control API."""
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.control))) as session:
            address = f"http://podbridge/bridge/v1{path}"
            async with session.request(method, address, json=body) as response:
                content = await response.read()
                assert response.ok, content
                return json.loads(content or b"null")

    async def get(self, path: str) -> tuple[int, bytes]:
        """GET from the registry of the service."""
        address = (await self.status())["registry"]
        return await get(f"http://{address}{path}")

    async def pull(self, repository: str, reference: str) -> str:
        """Pull as a client does and return the image ID; fail where anything is missing or not its digest."""
        return await pull(f"http://{(await self.status())['registry']}", repository, reference)

    def listings(self) -> int:
        """Return how often podman's images have been listed."""
        return self.double.log("requests").count("begin /images/json")


async def get(address: str) -> tuple[int, bytes]:
    """GET a URL."""
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        return response.status, await response.read()


async def pull(registry: str, repository: str, reference: str) -> str:
    """Pull an image and return its ID; fail where anything is missing or has another digest."""
    async with aiohttp.ClientSession(f"{registry}/v2/{repository}/") as session:
        async with session.get(f"manifests/{reference}") as response:
            content = await response.read()
            assert response.status == 200, content
            digest = response.headers["Docker-Content-Digest"]
        assert digest == sha256(content)
        manifest = json.loads(content)
        for descriptor in (manifest["config"], *manifest["layers"]):
            async with session.get(f"blobs/{descriptor['digest']}") as response:
                content = await response.read()
                assert response.status == 200, content
            assert (sha256(content), len(content)) == (descriptor["digest"], descriptor["size"])
    return str(manifest["config"]["digest"]).removeprefix("sha256:")


def sha256(content: bytes) -> str:
    """Return the digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
