"""What clients of podman's API do, each written once: the same against podman itself and through podbridge.

Every function gets a bench to work at, and returns what its user sees, which must not depend on the way.
"""

import contextlib
import hashlib
import io
import os
import pty
import select
import subprocess
import tarfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiodocker
import docker
import podman
from podman.domain.containers import Container
from podman.domain.images import Image

from tests.relay.worlds import SHELL, environment

STDIN = bytes(range(256)) * 120_000
"""30 MB, for a pipe through a container."""

EVENTS = {"tag", "untag", "create", "start", "exec"}
"""What every run of a scenario makes podman tell; the rest depends on which process ends first."""

Seen = dict[str, object]


@dataclass(frozen=True, slots=True)
class Bench:
    """The socket to speak to, a directory, the registry to push to, and a word that makes names the bench's own."""

    socket: Path
    directory: Path
    registry: str
    word: str

    @property
    def url(self) -> str:
        """How clients write the socket."""
        return f"unix://{self.socket}"

    @property
    def context(self) -> Path:
        """A directory to build from."""
        context = self.directory / f"context-{self.word}"
        context.mkdir(exist_ok=True)
        (context / "Containerfile").write_text("FROM scratch\nARG A\nCOPY file /file\nLABEL a=$A\n", encoding="utf-8")
        (context / "file").write_text(self.word, encoding="utf-8")
        return context

    def run(self, *words: str, stdin: bytes = b"") -> bytes:
        """Run a command that must succeed."""
        done = subprocess.run(
            words, input=stdin, capture_output=True, check=False, timeout=120, env=environment(self.socket)
        )
        assert done.returncode == 0, (words, done.stderr.decode())
        return done.stdout


def members(archive: bytes) -> list[tuple[str, int]]:
    """Return names and sizes of what is in a tar."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return sorted((member.name, member.size) for member in tar)


def on_a_terminal(words: list[str], env: dict[str, str], typed: bytes) -> str:
    """Run a command on a terminal, type something, and return what is shown."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    ) as process:
        os.close(theirs)
        os.write(ours, typed)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal has gone with its last process
            while part := os.read(ours, 4096):
                shown += part
        process.wait(60)
    os.close(ours)
    return shown.decode()


def podman_command(bench: Bench) -> Seen:
    """Use `podman --url`."""
    remote = ["podman", "--url", bench.url]
    name, archive = f"localhost/{bench.word}:1", str(bench.directory / f"{bench.word}.tar")
    big = "x" * 9000
    bench.run(
        *remote, "build", "--quiet", "--isolation=chroot", f"--build-arg=A={big}", "--tag", name, str(bench.context)
    )
    bench.run(*remote, "tag", name, f"{bench.registry}/{bench.word}:1")
    labels = bench.run(*remote, "image", "inspect", "--format", "{{.Labels.a}}", name).decode().strip()
    bench.run(*remote, "push", "--quiet", "--tls-verify=false", f"{bench.registry}/{bench.word}:1")
    bench.run(*remote, "save", "--quiet", "--output", archive, name)
    bench.run(*remote, "rmi", name)
    bench.run(*remote, "load", "--quiet", "--input", archive)
    names = bench.run(*remote, "images", "--format", "{{.Repository}}:{{.Tag}}").decode().split()
    piped = bench.run(*remote, "run", "--rm", "--interactive", SHELL, "/bin/cat", stdin=STDIN)
    terminal = on_a_terminal(
        [*remote, "run", "--rm", "--interactive", "--tty", SHELL, "/bin/sh", "-c", "read x; echo got $x"],
        environment(bench.socket),
        b"typed\n",
    )
    bench.run(*remote, "run", "--detach", "--name", bench.word, SHELL, "/bin/sleep", "100")
    executed = bench.run(*remote, "exec", "--interactive", bench.word, "/bin/cat", stdin=STDIN)
    bench.run(*remote, "rm", "--force", "--time=0", bench.word)
    events = bench.run(*remote, "events", "--stream=false", "--since=5m", "--format", "{{.Status}} {{.Name}}").decode()
    return {
        "label": labels == big,
        "loaded": name in names,
        "saved": Path(archive).stat().st_size > 0,
        "piped": hashlib.sha256(piped).hexdigest(),
        "terminal": "got typed" in terminal,
        "executed": hashlib.sha256(executed).hexdigest(),
        "events": sorted(EVENTS & {line.split()[0] for line in events.splitlines() if bench.word in line}),
    }


def tag_and_hear(bench: Bench, name: str, other: str) -> str:
    """Tag until `docker events`, which begins whenever it likes, tells of it; return what it tells."""
    listen = ["docker", "events", "--filter", "event=tag", "--format", "{{.Type}} {{.Action}}"]
    with subprocess.Popen(listen, stdout=subprocess.PIPE, env=environment(bench.socket)) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 60
        while not select.select([process.stdout], [], [], 0.2)[0]:
            assert time.monotonic() < deadline
            bench.run("docker", "tag", name, other)
        line = process.stdout.readline().decode().strip()
        process.terminate()
    return line


def docker_command(bench: Bench) -> Seen:
    """Use the docker command line."""
    name, repository = f"{bench.registry}/{bench.word}:1", f"{bench.registry}/{bench.word}"
    bench.run(
        "docker", "build", "--quiet", "--file", str(bench.context / "Containerfile"), "--tag", name, str(bench.context)
    )
    event = tag_and_hear(bench, name, f"{repository}:2")
    pushed = bench.run("docker", "push", name).decode()
    archive = bench.run("docker", "save", name)
    bench.run("docker", "rmi", name)
    bench.run("docker", "load", stdin=archive)
    piped = bench.run("docker", "run", "--rm", "--interactive", SHELL, "/bin/cat", stdin=STDIN)
    bench.run("docker", "run", "--detach", "--name", bench.word, SHELL, "/bin/sleep", "100")
    command = "docker", "exec", bench.word, "/bin/sh", "-c", "echo one; echo two >&2"
    _, executed = heard(lambda: (0, bench.run(*command)))
    bench.run("docker", "rm", "--force", bench.word)
    tags = bench.run("docker", "images", "--format", "{{.Tag}}", repository).decode().split()
    return {
        "pushed": ": digest: sha256:" in pushed,
        "tags": sorted(tags),
        "piped": hashlib.sha256(piped).hexdigest(),
        "executed": executed,
        "event": event,
    }


def podman_py(bench: Bench) -> Seen:
    """Use podman-py."""
    name, repository = f"localhost/{bench.word}:1", f"{bench.registry}/{bench.word}"
    with podman.PodmanClient(base_url=bench.url) as client:
        image, _ = client.images.build(path=str(bench.context), dockerfile="Containerfile", tag=name)
        assert isinstance(image, Image)
        tagged = image.tag(repository, "1")
        pushed = client.images.push(repository, "1", tlsVerify=False)
        archive = b"".join(image.save(named=name))
        client.images.remove(name)
        loaded = [one.tags for one in client.images.load(archive)]
        listed = [one.tags for one in client.images.list(name=name)]
        container = client.containers.run(SHELL, ["/bin/sleep", "100"], detach=True, name=bench.word)
        assert isinstance(container, Container)
        code, output = heard(lambda: container.exec_run(["/bin/sh", "-c", "echo done"]))
        container.kill()
        container.remove(force=True)
        return {
            "version": client.version()["Version"],  # type: ignore[no-untyped-call]
            "ping": client.ping(),
            "tagged": tagged,
            "pushed": '"error"' not in str(pushed),
            "members": len(members(archive)),
            "loaded": any(name in tags for tags in loaded),
            "listed": any(name in tags for tags in listed),
            "executed": (code, output),
        }


def heard(execute: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Execute a command that prints something, and return its exit code and what it printed.

    Podman 4.3.1 by itself loses all of it in one of 70 on a busy machine, where the command printed before podman had
    attached (measured): what printed nothing is executed again, twice at the most.
    """
    for _ in range(2):
        code, output = execute()
        if output:
            return code, output
    return execute()


def docker_py(bench: Bench) -> Seen:
    """Use docker-py."""
    name, repository = f"{bench.registry}/{bench.word}:1", f"{bench.registry}/{bench.word}"
    with contextlib.closing(docker.DockerClient(base_url=bench.url, version="1.41")) as client:
        image, _ = client.images.build(path=str(bench.context), dockerfile="Containerfile", tag=name)
        image.tag(repository, "2")
        pushed = list(client.images.push(repository, "1", stream=True, decode=True))
        archive = b"".join(client.images.get(name).save(named=name))
        client.images.remove(name)
        loaded = [one.tags for one in client.images.load(archive)]
        container = client.containers.run(SHELL, ["/bin/sleep", "100"], detach=True, name=bench.word)
        code, output = heard(lambda: container.exec_run(["/bin/sh", "-c", "echo done"]))
        attached = client.api.exec_create(container.id, ["/bin/cat"], stdin=True)
        pipe = client.api.exec_start(attached["Id"], socket=True)
        with pipe, pipe._sock as connection:
            connection.sendall(b"through a pipe")
            connection.shutdown(1)
            echoed = b"".join(iter(lambda: connection.recv(4096), b""))
        container.remove(force=True)
        return {
            "version": client.version()["Version"],
            "first": pushed[0]["status"].replace(name, "NAME"),
            "members": len(members(archive)),
            "loaded": name in loaded[0],
            "executed": (code, output),
            "echoed": echoed[8:],
        }


async def aio_docker(bench: Bench) -> Seen:
    """Use aiodocker."""
    repository = f"{bench.registry}/{bench.word}"
    async with aiodocker.Docker(url=bench.url, api_version="v1.41") as client:
        await client.images.tag(SHELL, repository, tag="1")
        auth = {"username": "anybody", "password": "anything"}  # without one it sends a header that podman cannot read
        pushed = [record async for record in client.images.push(repository, auth=auth, tag="1", stream=True)]
        container = await client.containers.run({"Image": SHELL, "Cmd": ["/bin/sleep", "100"]}, name=bench.word)
        execution = await container.exec(["/bin/cat"], stdin=True)
        async with execution.start() as stream:
            await stream.write_in(b"typed\n")
            message = await stream.read_out()
        await container.delete(force=True)
        inspected = await client.images.inspect(f"{repository}:1")
        return {
            "version": (await client.version())["Version"],
            "first": pushed[0]["status"].replace(repository, "NAME"),
            "echoed": None if message is None else message.data,
            "inspected": inspected["Id"],
        }


SCENARIOS: dict[str, Callable[[Bench], Seen | Awaitable[Seen]]] = {
    "podman": podman_command,
    "docker": docker_command,
    "podman-py": podman_py,
    "docker-py": docker_py,
    "aiodocker": aio_docker,
}
