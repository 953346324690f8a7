"""A pull over a slow link: bytes and time, with and without encodings, against docker-registry with gzip layers.

    python -m tests.benchmarks.link [--json FILE] [--quick]

Server and client live in network namespaces of their own, joined by a veth pair that `tc` shapes to 1 Gbit/s and
100 Mbit/s. The client is podman with a store of its own, so unpacking counts. Needs root, iproute2 and podman;
docker-registry and skopeo where they are. Where the kernel cannot shape, the link is measured as it is: it says so.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.oci import OCI_CONFIG
from bridge.tree.encodings import encode
from tests.end_to_end.programs import PATIENCE, run, scratch
from tests.registry.trees import Shelf, manifest

from .machine import facts
from .report import say, say_facts, say_table, write
from .service import READY, running
from .software import MB, Software

RATES = {"1 Gbit/s": ("1gbit", "1mb"), "100 Mbit/s": ("100mbit", "256kb")}
LAYERS = 5
SERVER, CLIENT = "10.213.7.1", "10.213.7.2"
PORT = 5000


@dataclass(frozen=True, slots=True)
class Pull:
    """What one pull cost: bytes that the client received, seconds, and whether the link was shaped."""

    link: str
    server: str
    received: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Link:
    """Two network namespaces, and the interface of each."""

    server: str
    client: str

    def within(self, side: str, *command: str) -> list[str]:
        """Return the words that run a command on one side."""
        return ["ip", "netns", "exec", side, *command]

    def shape(self, rate: str, burst: str) -> None:
        """Limit what the server sends; raise RuntimeError where the kernel cannot."""
        shaped = ["tbf", "rate", rate, "burst", burst, "latency", "100ms"]
        run("tc", "-netns", self.server, "qdisc", "replace", "dev", "far", "root", *shaped)

    def received(self) -> int:
        """Return the bytes that came to the client, the headers of every layer included."""
        (told,) = json.loads(run("ip", "-netns", self.client, "-statistics", "-json", "link", "show", "dev", "near"))
        return int(told["stats64"]["rx"]["bytes"])


@contextlib.contextmanager
def linked() -> Iterator[Link]:
    """Make the namespaces, and remove them."""
    link = Link(f"pb{os.getpid()}s", f"pb{os.getpid()}c")
    with contextlib.ExitStack() as stack:
        for name in (link.server, link.client):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
        ends = ["far", "netns", link.server, "type", "veth", "peer", "name", "near", "netns", link.client]
        run("ip", "link", "add", *ends)
        for name, device, address in ((link.server, "far", SERVER), (link.client, "near", CLIENT)):
            run("ip", "-netns", name, "address", "add", f"{address}/24", "dev", device)
            for each in (device, "lo"):
                run("ip", "-netns", name, "link", "set", each, "up")
        yield link


def publish(shelf: Shelf, directory: Path, size: int) -> None:
    """Publish `app:1`, an image of this machine's software, `size` bytes in all."""
    software, layers = Software(), []
    for number in range(LAYERS):
        place = directory / f"layer{number}"
        software.fill(place, size // LAYERS)
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(place, f"layer{number}")
        layers.append(shelf.blob(file.getvalue()))
        shutil.rmtree(place)
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    shelf.publish("app:1", manifest(shelf.blob(json.dumps(config).encode(), OCI_CONFIG), layers))


@contextlib.contextmanager
def podbridge(link: Link, tree: Path, directory: Path) -> Iterator[None]:
    """Serve the tree on the server's side."""
    words = ["registry", "--tree", str(tree), "--listen", f"{SERVER}:{PORT}"]
    with _answering(link, [sys.executable, "-m", "bridge", *words], directory / "podbridge.log"):
        yield


@contextlib.contextmanager
def docker_registry(link: Link, tree: Path, directory: Path) -> Iterator[None]:
    """Serve the image by docker-registry, to which skopeo pushes it as pushes are: compressed."""
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "docker")}},
        "http": {"addr": f"{SERVER}:{PORT}"},
    }
    file = directory / "docker.yml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    with _answering(link, ["docker-registry", "serve", str(file)], directory / "docker.log"):
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        layout = f"oci:{tree / 'repositories' / 'app' / '_oci'}:1"
        run(*link.within(link.server, *copy, layout, f"docker://{SERVER}:{PORT}/app:1"))
        yield


@contextlib.contextmanager
def _answering(link: Link, command: list[str], log: Path) -> Iterator[None]:
    probe = link.within(
        link.server, sys.executable, "-c", f"import socket; socket.create_connection(('{SERVER}', {PORT}))"
    )
    with log.open("wb") as output, running(link.within(link.server, *command), output.fileno()):
        deadline = time.monotonic() + READY
        while subprocess.call(probe, stderr=subprocess.DEVNULL):
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text(encoding="utf-8"))
            time.sleep(0.1)
        yield


def pull(link: Link, directory: Path) -> tuple[int, float]:
    """Pull into an empty store; return the bytes that came, and the seconds that it took."""
    places = ("--root", "r"), ("--runroot", "rr"), ("--tmpdir", "t")
    podman = ["podman", *(word for option, name in places for word in (option, str(directory / name)))]
    command = link.within(link.client, *podman, "pull", "--quiet", "--tls-verify=false", f"{SERVER}:{PORT}/app:1")
    before, begun = link.received(), time.perf_counter()
    run(*command, timeout=PATIENCE)
    seconds = time.perf_counter() - begun
    received = link.received() - before
    run(*link.within(link.client, *podman, "rmi", "--all", "--force"))
    return received, seconds


def measure(link: Link, directory: Path, size: int) -> list[Pull]:
    """Pull from every server over every link."""
    shelf = Shelf(directory / "tree")
    publish(shelf, directory, size)
    pulls: list[Pull] = []

    def over_all(server: str, serve: Callable[[Link, Path, Path], contextlib.AbstractContextManager[None]]) -> None:
        with serve(link, shelf.root, directory):
            for name, (rate, burst) in RATES.items():
                try:
                    link.shape(rate, burst)
                except RuntimeError as error:
                    say(f"this kernel cannot shape a link, so it is measured as it is: {error}")
                    name = "unshaped"  # noqa: PLW2901 # the figures must not claim a rate
                pulls.append(Pull(name, server, *pull(link, directory)))

    over_all("podbridge, no encodings", podbridge)
    encode(shelf.root, 100 * size)
    over_all("podbridge", podbridge)
    if shutil.which("docker-registry") and shutil.which("skopeo"):
        over_all("docker-registry, gzip layers", docker_registry)
    else:
        say("left out, not installed: docker-registry or skopeo")
    return pulls


def say_pulls(pulls: list[Pull], size: int) -> None:
    """Print the table."""
    rows = []
    for name in dict.fromkeys(one.link for one in pulls):
        rows.append((f"{name}:", "", ""))
        rows += [(f"  {p.server}", f"{p.received / MB:.1f}", f"{p.seconds:.2f}") for p in pulls if p.link == name]
    say_table((f"an image of {size / MB:.0f} MB", "MB received", "seconds"), rows)


def main() -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small image")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    missing = [program for program in ("ip", "tc", "podman") if shutil.which(program) is None]
    if os.geteuid() or missing:
        say(f"left out: {' '.join(missing) or 'root'} is missing, and network namespaces need it")
        return 0
    size = (10 if arguments.quick else 100) * MB
    with scratch(Path("/var/tmp")) as directory, linked() as link:
        machine = facts(directory)
        say_facts(machine)
        pulls = measure(link, directory, size)
    say_pulls(pulls, size)
    write(arguments.json, {"machine": machine, "pulls": [asdict(one) for one in pulls]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
