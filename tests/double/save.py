"""`podman image save` of the double: reuse by existence, and everything that can go wrong with it."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.double import images
from tests.double.faults import NONE, Fault
from tests.double.gates import Gate
from tests.double.store import Double

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Save:
    """One save of one image into `output`."""

    double: Double
    image: dict[str, Any]
    output: Path
    fault: Fault = NONE

    @property
    def blobs(self) -> Path:
        """Where an OCI layout has its blobs."""
        return self.output / "blobs" / "sha256"

    def oci(self) -> int:
        """Write an OCI layout with uncompressed layers; return the exit code."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(self.image["layers"]):
            if self._stops(number):
                return 0
            if not (self.blobs / name).exists() and not self._leaves_out(number):
                self._layer(number, name)
        if self._stops(len(self.image["layers"])):
            return 0
        self._finish()
        return 0

    def docker(self) -> int:
        """Write the exact bytes of a docker-format image: blobs named by their hex, no reuse."""
        self.output.mkdir(parents=True, exist_ok=True)
        for name in (*self.image["layers"], self.image["Id"]):
            (self.output / name).write_bytes(self._read(name))
        (self.output / "manifest.json").write_bytes(self._read(self.image["manifest"]))
        (self.output / "version").write_text("Directory Transport Version: 1.1\n")
        return 0

    def _stops(self, number: int) -> bool:
        """Say whether the save ends here with exit code 0, as one does that was sent SIGTERM (4.3.1)."""
        return self.fault.kind == "partial" and self.fault["after"] == number

    def _leaves_out(self, number: int) -> bool:
        """Say whether a layer is passed over, as podman 5 does with those that may not be distributed (5.8.6)."""
        return self.fault.kind == "leaves out" and self.fault["layer"] == number

    def _layer(self, number: int, name: str) -> None:
        content = self._read(name)
        self.double.note("reads", name)
        spool = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"storage{os.getpid()}-{number}"
        spool.write_bytes(content)
        temporary = self.blobs.parent.parent / f"oci-put-blob{os.getpid()}-{number}"
        temporary.write_bytes(content[: len(content) // 2])
        self._hold(number)
        if self.fault.kind == "corrupt" and number == self.fault["layer"]:
            content = content[:-1] + b"!"
        temporary.write_bytes(content)
        temporary.rename(self.blobs / name)
        spool.unlink()

    def _hold(self, number: int) -> None:
        if self.fault.kind == "hold" and self.fault["after"] == number:
            if self.fault["deaf"]:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Gate(Path(self.fault["gate"])).wait()
        if self.fault.kind == "churn" and self.fault["after"] == number:
            self._churn()

    def _churn(self) -> None:
        """Go on making files until the directory is gone and stays so, as a save does whose caller was killed."""
        Gate(Path(self.fault["gate"])).arrivals.touch()
        deadline = time.monotonic() + self.fault["seconds"]
        while time.monotonic() < deadline:
            for number in range(50):
                with_name = self.blobs / f"churn{number}"
                try:
                    with_name.write_bytes(b"")
                except FileNotFoundError:
                    return

    def _read(self, name: str) -> bytes:
        try:
            return self.double.blob(name).read_bytes()
        except FileNotFoundError:
            sys.stderr.write(f"Error: {self.image['Id']}: image not known\n")
            sys.exit(125)

    def _finish(self) -> None:
        config, manifest = self._read(self.image["Id"]), self._read(self.image["manifest"])
        if self.image["ManifestType"] != images.OCI or self.fault.kind == "wrong config":
            # what oci-dir makes of a docker-format config: other bytes, another image ID
            config = config.replace(b'"Healthcheck":{"Test":["NONE"]}', b'"Healthcheck":null')
            manifest = images.manifest_of(config, [self._read(name) for name in self.image["layers"]])
        for content in (config, manifest):
            (self.blobs / images.hexdigest(content)).write_bytes(content)
        (self.output / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        entries = [images.descriptor(manifest, MANIFEST_TYPE)] * (2 if self.fault.kind == "two entries" else 1)
        if self.fault.kind != "no index":
            (self.output / "index.json").write_bytes(images.encode({"schemaVersion": 2, "manifests": entries}))


def push(double: Double, output: Path, text: str) -> int:
    """Push an image to a directory; return podman's exit code."""
    image = double.find(text)
    fault = double.faults.take("push")
    if image is None:
        sys.stderr.write(f"Error: {text}: image not known\n")
        return 125
    code = Save(double, image, output).docker()
    if fault.kind == "leaves out":
        (output / image["layers"][fault["layer"]]).unlink()
    double.emit("push", image["Id"], actor=image["Id"])
    return code


def run(double: Double, form: str, output: Path, text: str) -> int:
    """Save an image; return podman's exit code. A SIGTERM ends it with 0 and half a directory (4.3.1)."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    image = double.find(text)
    double.note("saves", f"{form} {text}")
    fault = double.faults.take("save")
    if fault.kind == "fail":
        sys.stderr.write(f"Error: {fault['words']}\n")
        return 125
    if image is None:
        sys.stderr.write(f"Error: {text}: image not known\n")
        return 125
    save = Save(double, image, output, fault)
    try:
        code = save.docker() if form == "docker-dir" else save.oci()
    except OSError as error:
        sys.stderr.write(f"Error: writing blob: {str(error.strerror).lower()}\n")
        return 125
    double.emit("save", image["Id"], actor=image["Id"])
    return code
