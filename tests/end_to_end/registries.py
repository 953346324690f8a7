"""A registry that takes what is pushed to it, for whoever compares podbridge with one, or copies to one."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.end_to_end.programs import SOON, eventually, free_port
from tests.end_to_end.services import Client


@contextlib.contextmanager
def docker_registry(directory: Path) -> Iterator[str]:
    """Run docker's registry while the block runs; give its address."""
    address = f"127.0.0.1:{free_port()}"
    settings = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(directory / "registry")}}}
    file = directory / "registry.yml"
    file.write_text(json.dumps({**settings, "http": {"addr": address}}), encoding="utf-8")
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", file], stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(address))
        yield address
    finally:
        process.terminate()
        process.wait(SOON)


def _answers(address: str) -> bool:
    try:
        return Client(address).get("/v2/").status == 200
    except OSError:
        return False
