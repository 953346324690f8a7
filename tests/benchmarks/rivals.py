"""The ways to get a fleet out of podman's store; each brings its copy up to date, whatever is in it already.

A rival is a context manager over a fleet and an empty directory; inside, each call of what it yields does its
whole job once. None is told what changed: all of them look at every image, as they would from a timer.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.end_to_end.programs import free_port

from .images import Named, podman_name
from .meter import Cost, measure
from .report import say
from .service import LOOPBACK, Podbridge, running, wait_for_port

Update = Callable[[], Cost]


@dataclass(frozen=True, slots=True)
class Rival:
    """One way: its name in the table, the programs that it needs, and how to begin."""

    name: str
    programs: tuple[str, ...]
    begin: Callable[[Named, Path], AbstractContextManager[Update]]
    slow: bool = False
    """It compresses every layer anew, changed or not: measured once, cold, unless all is asked for."""

    def missing(self) -> list[str]:
        """Return the programs that are not installed."""
        return [program for program in self.programs if shutil.which(program) is None]


@contextmanager
def _sync(fleet: Named, directory: Path) -> Iterator[Update]:
    bridge = Podbridge.configure(fleet.store, directory / "podbridge")

    def update() -> Cost:
        cost = measure([bridge.command("sync")])
        bridge.check(fleet.ids)
        return cost

    yield update


@contextmanager
def _push(fleet: Named, directory: Path) -> Iterator[Update]:
    port = free_port()
    podman = [*fleet.store.command, "push", "--quiet", "--tls-verify=false"]
    commands = [[*podman, podman_name(name), f"{LOOPBACK}:{port}/{name}:1"] for name in fleet.ids]
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory)}, "cache": {"blobdescriptor": "inmemory"}},
        "http": {"addr": f"{LOOPBACK}:{port}"},
    }
    configuration = directory / "config.yml"
    configuration.write_text(json.dumps(settings), encoding="utf-8")
    with (
        (directory / "registry.log").open("wb") as log,
        running(["docker-registry", "serve", str(configuration)], log.fileno()) as registry,
    ):
        wait_for_port(registry, port)
        yield partial(measure, commands, server=registry.pid)


@contextmanager
def _copy(fleet: Named, directory: Path, *options: str) -> Iterator[Update]:
    skopeo = ["skopeo", "copy", "--quiet", *options]
    commands = [
        [*skopeo, fleet.store.skopeo_name(podman_name(name)), f"oci:{directory / 'oci'}:{name}"] for name in fleet.ids
    ]
    yield partial(measure, commands)


@contextmanager
def _save(fleet: Named, directory: Path) -> Iterator[Update]:
    podman = [*fleet.store.command, "image", "save", "--quiet", "--format=oci-dir"]
    commands = [[*podman, f"--output={directory / name}", podman_name(name)] for name in fleet.ids]
    yield partial(measure, commands)


def _copy_uncompressed(fleet: Named, directory: Path) -> AbstractContextManager[Update]:
    return _copy(fleet, directory, "--dest-oci-accept-uncompressed-layers")


PODBRIDGE = Rival("podbridge sync", ("podman",), _sync)
PUSH = Rival("podman push to docker-registry", ("podman", "docker-registry"), _push)
SAVE = Rival("podman image save, each", ("podman",), _save, slow=True)
UNCOMPRESSED = Rival("skopeo copy to one oci:, uncompressed", ("skopeo",), _copy_uncompressed)
RIVALS = (PODBRIDGE, PUSH, Rival("skopeo copy to one oci:", ("skopeo",), _copy, slow=True), UNCOMPRESSED, SAVE)


def installed(rivals: Sequence[Rival]) -> list[Rival]:
    """Return the rivals whose programs are here; name the others."""
    for rival in rivals:
        for program in rival.missing():
            say(f"left out, {program} is not installed: {rival.name}")
    return [rival for rival in rivals if not rival.missing()]
