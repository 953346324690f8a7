"""A podman to test: the real one or the double, with a store of its own and its service as a process."""

import base64
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.podman.service import listens
from tests import versions
from tests.double.gates import DEADLINE
from tests.double.store import Double

MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Backend:
    """One podman. Everything is done by its command line; its service listens on `socket`."""

    directory: Path
    command: list[str]
    double: Double | None = None

    @property
    def version(self) -> tuple[int, ...]:
        """Which version of podman it is."""
        return versions.installed() if self.double is None else versions.parse(versions.DOUBLE)

    @property
    def socket(self) -> Path:
        """Where the service listens."""
        return self.directory / "s"

    def place(self, name: str) -> str:
        """Return how skopeo names an image of a store of podman's own."""
        return f"containers-storage:[overlay@{self.directory / 'r'}+{self.directory / 'rr'}]{name}"

    def run(self, *words: str) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def build(self, name: str = "", files: Mapping[str, bytes] | None = None, *more: str) -> str:
        """Build an image of one layer and return its ID."""
        with tempfile.TemporaryDirectory(dir=self.directory) as context:
            for path, content in (files or {"file": name.encode()}).items():
                (Path(context) / path).write_bytes(content)
            (Path(context) / "Containerfile").write_text("FROM scratch\nCOPY [^C]* /\n")
            tag = ("--tag", name) if name else ()
            return self.run("build", "--quiet", "--no-cache", "--isolation=chroot", *more, *tag, context)

    def lose(self, image_id: str, part: str) -> None:
        """Lose a part of an image, as a killed build or a full disk does: its `manifest`, `config` or `layer`."""
        if self.double is not None:
            self.double.damage(image_id, part)
            return
        records = self.directory / "r" / "overlay-images"
        if part == "layer":
            (image,) = [one for one in json.loads((records / "images.json").read_bytes()) if one["id"] == image_id]
            layers = self.directory / "r" / "overlay-layers" / "layers.json"
            left = [one for one in json.loads(layers.read_bytes()) if one["id"] != image["layer"]]
            layers.write_text(json.dumps(left))
        else:
            encoded = base64.b64encode(f"sha256:{image_id}".encode()).decode()
            (records / image_id / ("manifest" if part == "manifest" else f"={encoded}")).unlink()

    @contextlib.contextmanager
    def slow_save(self) -> Iterator[str]:
        """Give an image whose save can be interrupted in the middle of its layer."""
        if self.double is not None:
            self.double.faults.add("save", "hold", after=0, deaf=False, gate=str(self.double.gate("never").path))
            yield self.build("localhost/slow:1")
        else:
            yield self.build("localhost/slow:1", {"big": os.urandom(MEGABYTE) * 80})

    def without_an_events_logger(self) -> "Backend":
        """Return the same store, whose podman writes no events."""
        if self.double is not None:
            self.double.faults.add("events", "problem", times=None)
            return self
        return dataclasses.replace(self, command=[*self.command[:-1], "none"])

    @contextlib.contextmanager
    def service(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service, from when it listens."""
        words = ["system", "service", "--time=0", f"unix://{self.socket}"]
        process = subprocess.Popen([*self.command, *words], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + DEADLINE
            while not listens(self.socket):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)  # between two looks
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)
            self.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def store(kind: str) -> Iterator[Backend]:
    """Make a store of the kind `podman` or `double`, and leave nothing of it."""
    directory = Path(tempfile.mkdtemp(prefix="dbl", dir="/tmp"))
    try:
        if kind == "double":
            double = Double.create(directory / "d")
            yield Backend(directory, double.command, double)
        else:
            places = ("--root", "r"), ("--runroot", "rr"), ("--tmpdir", "t")
            words = [word for option, name in places for word in (option, str(directory / name))]
            yield Backend(directory, ["podman", *words, "--events-backend", "file"])
    finally:
        remove(directory)


def remove(directory: Path) -> None:
    """Remove a directory, with what is mounted in it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(directory)
