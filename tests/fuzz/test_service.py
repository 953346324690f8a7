"""The whole program over the double: after each hostile image it lives, serves the good one, and a later one."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import requests_unixsocket
from hypothesis import strategies as st

from tests.double import images
from tests.double.gates import DEADLINE
from tests.double.images import Made
from tests.double.store import Double, event
from tests.fuzz import broken, campaign
from tests.fuzz.test_decoders import INFO, LISTED, MANIFEST

LAYERS = (images.text_layer("hostile"),)
CONFIG = json.loads(images.make(LAYERS, labels={"a": "b"}).config) | {"created": "2026-01-01T00:00:00Z"}


LIES = {"info": INFO, "version": INFO, "listing": [LISTED], "events": event("tag", "x")}
"""What podman says where it tells the truth."""


@dataclass(slots=True)
class Program:
    """A double with a good image, and podbridge over it, each a process of its own; a hook hears what is published."""

    directory: Path
    double: Double
    environment: dict[str, str]
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, verb: str) -> list[str]:
        """Return the words that call podbridge."""
        return [sys.executable, "-m", "bridge", verb, f"--config={self.directory / 'podbridge.yaml'}"]

    def start(self, *words: str) -> None:
        """Start a program that runs until the end."""
        log = (self.directory / "log").open("ab")
        self.children.append(subprocess.Popen(words, stdout=log, stderr=log, env=self.environment))
        log.close()

    def lives(self) -> bool:
        """Return True if all that was started runs; fail with the log otherwise."""
        assert all(child.poll() is None for child in self.children), self.said()
        return True

    def said(self) -> str:
        """Return what the programs wrote."""
        return (self.directory / "log").read_text(errors="replace")[-5000:]

    def states(self) -> dict[str, str]:
        """Return the state of each reference."""
        with contextlib.suppress(OSError):
            address = f"http+unix://{str(self.directory / 'c').replace('/', '%2F')}/bridge/v1/publications"
            answer = requests_unixsocket.get(address, timeout=DEADLINE)
            return {one["reference"]: one["state"] for one in answer.json()["publications"]}
        return {}

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is true, with all programs alive."""
        deadline = time.monotonic() + DEADLINE
        while not (self.lives() and true()):
            assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what}\n{self.states()}\n{self.said()}"
            time.sleep(0.02)

    def pulled(self, name: str) -> bool:
        """Return True if the registry has the manifest of `name:1`."""
        with contextlib.suppress(urllib.error.URLError):
            port = (self.directory / "port").read_text()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/{name}/manifests/1", timeout=DEADLINE) as answer:
                return bool(answer.status == 200)
        return False


@pytest.fixture
def program() -> Iterator[Program]:
    """A program with nothing running yet."""
    directory = Path(tempfile.mkdtemp(prefix="fz", dir="/tmp"))
    double = Double.create(directory / "d")
    path = {"PATH": f"{double.root / 'bin'}:{os.environ['PATH']}"}
    made = Program(directory, double, {**os.environ, **path})
    hook = directory / "hooks.d/post-publish.d/10-hear"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    port = _free_port()
    (directory / "port").write_text(str(port))
    configuration = {
        "podman": {"socket": f"unix://{double.socket}", "command": double.command},
        "tree": str(directory / "tree"),
        "registry": {"listen": f"127.0.0.1:{port}", "workers": 1},
        "control": {"socket": str(directory / "c")},
        "hooks": {"directories": [str(directory / "hooks.d")]},
    }
    (directory / "podbridge.yaml").write_text(json.dumps(configuration))
    made.start(*double.command, "system", "service", "--time=0", f"unix://{double.socket}")
    made.until(double.socket.exists, "the double's socket")
    double.build("localhost/good:1")
    yield made
    for child in reversed(made.children):
        child.terminate()
        child.wait(DEADLINE)
    shutil.rmtree(directory)


@st.composite
def hostile(draw: st.DrawFn) -> tuple[Made, str, bytes]:
    """Return an image with a broken config, a broken manifest, or both, and an answer with which podman lies."""
    config = draw(broken.documents(CONFIG)) if draw(st.booleans()) else images.encode(CONFIG)
    own = json.loads(images.manifest_of(config, LAYERS))
    manifest = draw(broken.documents({**MANIFEST, **own})) if draw(st.booleans()) else images.encode(own)
    question = draw(st.sampled_from(["", *LIES]))
    return Made(LAYERS, config, manifest), question, draw(broken.documents(LIES[question])) if question else b""


def test_serve_outlives_every_image(program: Program) -> None:
    program.start(*program.command("serve"))
    program.until(lambda: program.pulled("good"), "the good image")
    numbers = count()

    def check(example: tuple[Made, str, bytes]) -> None:
        made, question, lie = example
        number = next(numbers)
        if question == "events":
            line = lie.replace(b"\n", b" ").decode(errors="surrogateescape")
            program.double.faults.add("events", "lines", lines=[line])
        elif question:
            program.double.faults.lie(question, lie)
        program.double.add(made, f"localhost/bad{number}:1")
        program.until(lambda: program.states().get(f"bad{number}:1") in ("Published", "Failed"), f"bad{number} is told")
        later = program.double.build(f"localhost/later{number}:1")
        program.until(lambda: program.pulled(f"later{number}"), "a later image")
        assert program.pulled("good"), "the good image is gone"
        for image in (made.id, later.id):
            program.double.remove(image)
        program.until(lambda: set(program.states()) >= {"good:1"}, "the listing goes on")
        assert "Traceback" not in program.said()

    campaign.run(hostile(), check, examples=6)


def test_sync_publishes_the_rest(program: Program) -> None:
    numbers = count()

    def check(example: tuple[Made, str, bytes]) -> None:
        made, number = example[0], next(numbers)
        program.double.add(made, "localhost/bad:1")
        later = program.double.build(f"localhost/later{number}:1")
        done = subprocess.run(
            [*program.command("sync"), "--json"],
            env=program.environment,
            capture_output=True,
            timeout=2 * DEADLINE,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
        told = json.loads(done.stdout)
        assert {"good:1", f"later{number}:1"} <= set(told["published"]), done.stderr.decode(errors="replace")
        # an image that fails leaves what the one before it showed
        assert "bad:1" in {*told["published"], *told["failures"]} or made.id in told.get("damage", {})
        assert done.returncode == (1 if told["failures"] or told.get("damage") else 0)
        for image in (made.id, later.id):
            program.double.remove(image)

    campaign.run(hostile(), check, examples=4)


def _free_port() -> int:

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
