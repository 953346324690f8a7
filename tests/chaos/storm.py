"""A storm on the real podman: many programs change one store at random and are killed, while pullers verify every byte.

    python -m tests.chaos.storm --seconds 600 --seed 7

Builders, taggers, removers and list editors (podman, buildah, skopeo) work side by side on one store. A killer ends the
service, a registry worker or an export with SIGKILL. Pullers (plain HTTP with ranges and gzip, skopeo, podman) ask for
what they find and check that each manifest hashes to the digest it is served under and that each blob it names is there
and hashes to its own. At the end the tree equals the store, `podbridge verify` finds nothing, staging is empty, and
descriptors and memory are as they were. The seed fixes what each actor wants to do; the kernel decides who comes first.
"""

import argparse
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.programs import PODBRIDGE, ask, eventually, processes_on, scratch
from tests.end_to_end.services import Client, Response, Service
from tests.end_to_end.stores import Store

NAMES = ("app", "db", "team/web", "team/job", "edge")
TAGS = ("1", "2", "latest")
LISTS = ("multi", "team/all")
ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)
CONVERGED = 120.0
"""Seconds from the last change until the tree must equal the store: a service that was killed starts again first."""
EXPECTED = re.compile(
    r"published|withdrawn|kept|swept|serving|ready|starting|stopp|listening|image left the store|not wanted|"
    r"condition (lost|holds|held)|publication failed, will try again|podman|registry worker|worker|encod|"
    r"two names for one reference|manifest list|pass|doorbell|mass withdrawal"
)
"""Messages of the log that a storm may cause. Anything else, and every traceback, is a finding."""


class GoneError(Exception):
    """The service was killed in the middle of an answer: nothing can be said of that pull."""


@dataclass(slots=True)
class Storm:
    """One storm over a store, a service and a second store that pulls. `counts` says what was done, and how often."""

    directory: Path
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float) -> None:
        """Rage for `seconds`, then check that the tree equals the store; raise AssertionError with all findings."""
        store, puller = (Store(self.directory / name) for name in ("s", "p"))
        for one in (store, puller):
            one.directory.mkdir()
        service = Service(store, self.directory / "b", {"resync": "20s", "max_withdraw": "100%"})
        service.directory.mkdir(exist_ok=True)
        with service:
            store.build("localhost/base:1")
            eventually(lambda: service.client.digest("base", "1"))
            before = weight(service)
            self._rage(service, store, puller, seconds)
            self._converge(service, store)
            self._check_rest(service, before)
        verified = ask(*service.command("verify"))
        self._require(verified.returncode == 0, f"verify: {verified.stdout}{verified.stderr}")
        assert not self.findings, f"seed {self.seed}: " + "\n".join(self.findings[:20])

    def _converge(self, service: Service, store: Store) -> None:
        deadline = time.monotonic() + CONVERGED
        while left := differences(service, store):
            if time.monotonic() > deadline:
                self.findings.append(f"not converged after {CONVERGED:g} s, shown and wanted: {left}")
                self.findings.append(ask(*service.command("status")).stdout)
                return
            time.sleep(0.5)  # between two looks

    def _rage(self, service: Service, store: Store, puller: Store, seconds: float) -> None:
        changers: list[Callable[[random.Random], None]] = [
            Builder(store).act, Buildah(store).act, Tagger(store).act, Remover(store).act, Lister(store).act,
            Copier(store).act,
        ]  # fmt: skip
        pullers: list[Callable[[random.Random], None]] = [
            lambda dice: self.pull(service.client, dice),
            lambda dice: self.pull(service.client, dice),
            lambda dice: self.pull_with_skopeo(service, dice),
            lambda dice: self.pull_with_podman(service, puller, dice),
            Killer(service, self.counts).act,
        ]
        threads = [
            threading.Thread(target=self._repeat, args=(act, f"{self.seed}-{number}"), daemon=True)
            for number, act in enumerate([*changers, *pullers])
        ]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join(180)
            self._require(not thread.is_alive(), "an actor hangs")
        if service.process is not None and service.process.poll() is not None:
            service.start()

    def _repeat(self, act: Callable[[random.Random], None], seed: str) -> None:
        dice = random.Random(seed)
        while not self.over.is_set():
            try:
                act(dice)
            except GoneError:
                self.counts["pulls cut by a kill"] += 1
            except Exception as error:  # noqa: BLE001 - a finding, with its words
                self.findings.append(f"{type(error).__name__}: {error}")
            self.over.wait(dice.uniform(0, 0.3))

    def _require(self, held: bool, words: str) -> None:
        if not held:
            self.findings.append(words)

    def pull(self, client: Client, dice: random.Random) -> None:
        """Pull one reference by HTTP and verify every byte, each blob whole, as a range, or in gzip."""
        reference = self._choose(client, dice)
        if reference is None:
            return
        repository, tag = reference
        response = get(client, f"/v2/{repository}/manifests/{tag}", {"Accept": ACCEPT})
        if response.status == 404:
            return  # withdrawn since it was listed
        self._verify(client, repository, response, dice)
        self.counts["pulls by HTTP"] += 1

    def _choose(self, client: Client, dice: random.Random) -> tuple[str, str] | None:
        catalog = get(client, "/v2/_catalog").json["repositories"]
        if not catalog:
            return None
        repository = dice.choice(catalog)
        listed = get(client, f"/v2/{repository}/tags/list")
        tags = listed.json["tags"] if listed.status == 200 else []
        return (repository, dice.choice(tags)) if tags else None

    def _verify(self, client: Client, repository: str, response: Response, dice: random.Random) -> None:
        where = f"{repository}@{response.headers.get('docker-content-digest')}"
        self._require(response.status == 200, f"{where}: status {response.status}")
        self._require(
            digest_of(response.body) == response.headers.get("docker-content-digest"), f"{where}: other bytes"
        )
        self.counts["manifests"] += 1
        document = response.json
        for entry in document.get("manifests", []):
            member = get(client, f"/v2/{repository}/manifests/{entry['digest']}", {"Accept": ACCEPT})
            self._verify(client, repository, member, dice)
        for entry in [*document.get("layers", []), *([document["config"]] if "config" in document else [])]:
            self._verify_blob(client, f"/v2/{repository}/blobs/{entry['digest']}", entry, dice)

    def _verify_blob(self, client: Client, path: str, entry: dict[str, str], dice: random.Random) -> None:
        size = int(entry["size"])
        headers = dice.choice([{}, {"Accept-Encoding": "gzip"}, {"Range": f"bytes={size // 2}-"}])
        response = get(client, path, headers)
        body = response.body
        if response.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if response.status == 206:
            body = get(client, path).body[: size // 2] + body
        self._require(response.status in (200, 206), f"{path}: status {response.status}, named by a served manifest")
        self._require(digest_of(body) == entry["digest"], f"{path}: other bytes, {len(body)} of {size}")
        self.counts["blobs"] += 1

    def pull_with_skopeo(self, service: Service, dice: random.Random) -> None:
        """Copy one reference with skopeo, which verifies; what failed must be explained by a kill or a withdrawal."""
        reference = self._choose(service.client, dice)
        if reference is None:
            return
        target = self.directory / f"skopeo-{dice.random()}"
        source = f"docker://{service.address}/{reference[0]}:{reference[1]}"
        done = ask("skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", source, f"dir:{target}")
        shutil.rmtree(target, ignore_errors=True)
        self._judge("skopeo", done)

    def pull_with_podman(self, service: Service, puller: Store, dice: random.Random) -> None:
        """Pull one reference into another store, and take it out again."""
        reference = self._choose(service.client, dice)
        if reference is None:
            return
        name = f"{service.address}/{reference[0]}:{reference[1]}"
        done = ask(*puller.command, "pull", "--quiet", "--tls-verify=false", name)
        ask(*puller.command, "rmi", "--force", name)
        self._judge("podman", done)

    def _judge(self, client: str, done: subprocess.CompletedProcess[str]) -> None:
        words = done.stderr.lower()
        if done.returncode == 0:
            self.counts[f"pulls by {client}"] += 1
        elif any(
            sign in words for sign in ("manifest unknown", "refused", "eof", "reset", "broken pipe", "no image found")
        ):
            self.counts[f"pulls by {client}, cut or withdrawn"] += 1
        else:
            self.findings.append(f"{client}: {done.stderr.strip()[-300:]}")

    def _check_rest(self, service: Service, before: "Weight") -> None:
        eventually(lambda: not list((service.tree / "staging").iterdir()))
        after = weight(service)
        self._require(after.descriptors <= before.descriptors + 10, f"descriptors: {before} before, {after} after")
        self._require(after.kib <= before.kib * 1.5 + 30_000, f"memory: {before} before, {after} after")
        for line in service.said().splitlines():
            message = line.partition(" INFO ")[2] or line.partition(" WARNING ")[2] or line.partition(" ERROR ")[2]
            expected = EXPECTED.search(message) and "Traceback" not in line
            self._require(bool(expected) or not message, f"unexpected in the log: {line[:200]}")


@dataclass(frozen=True, slots=True)
class Weight:
    """What the service's processes hold together: open descriptors, and resident memory in KiB."""

    descriptors: int
    kib: int


def weight(service: Service) -> Weight:
    """Weigh the service as it is now."""
    descriptors = kib = 0
    for pid in processes_on(service.directory, "serve"):
        with contextlib.suppress(OSError):
            descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            kib += int(found[1]) if found else 0
    return Weight(descriptors, kib)


def get(client: Client, path: str, headers: dict[str, str] | None = None) -> Response:
    """Ask once; raise GoneError if the service went under the answer."""
    try:
        response = client.get(path, headers=headers)
    except (OSError, http.client.HTTPException) as error:
        raise GoneError from error
    if "content-length" in response.headers and len(response.body) != int(response.headers["content-length"]):
        raise GoneError
    return response


def digest_of(content: bytes) -> str:
    """Return the sha256 digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def differences(service: Service, store: Store) -> dict[str, tuple[str | None, str | None]]:
    """Return what the registry shows and what podman would push now, for each reference in which they differ.

    A list that lacks a member is not published, and `podbridge status` says so: it may show what it showed before.
    """
    shown = dict(published(service.client))
    wanted = {}
    for image in json.loads(store.podman("images", "--format", "json")):
        for name in image.get("Names") or ():
            if name.startswith("localhost/"):
                wanted[name.removeprefix("localhost/")] = digest_of(manifest_of(store, name))
    failed = {one["reference"] for one in json.loads(ask(*service.command("status", "--json")).stdout)["failures"]}
    lists = {f"{name}:1" for name in LISTS} & failed
    both = {name: (shown.get(name), wanted.get(name)) for name in (shown.keys() | wanted.keys()) - lists}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def manifest_of(store: Store, name: str) -> bytes:
    """Return the bytes of an image's current manifest, or of a list, as podman would push them."""
    done = subprocess.run(["skopeo", "inspect", "--raw", store.skopeo_name(name)], check=True, capture_output=True)
    return done.stdout


def published(client: Client) -> Iterator[tuple[str, str]]:
    """Yield each reference that the registry shows with its digest."""
    for repository in get(client, "/v2/_catalog?n=1000").json["repositories"]:
        for tag in get(client, f"/v2/{repository}/tags/list").json.get("tags", ()):
            digest = client.digest(repository, tag)
            if digest:
                yield f"{repository}:{tag}", digest


@dataclass(slots=True)
class Changer:
    """Something that changes a store. What it wants may be impossible by now: then podman says so, and it goes on."""

    store: Store

    def podman(self, *words: str) -> bool:
        """Run podman; return True if it did what it was told."""
        return ask(*self.store.command, *words).returncode == 0

    def names(self) -> list[str]:
        """Return the names that podman lists now."""
        done = ask(*self.store.command, "images", "--format", "{{.Repository}}:{{.Tag}}")
        return [name for name in done.stdout.split() if name.startswith("localhost/") and "<none>" not in name]

    def context(self, dice: random.Random) -> Path:
        """Make the context of a build of its own, so that builders can work side by side."""
        path = self.store.directory / f"context-{type(self).__name__}"
        path.mkdir(exist_ok=True)
        (path / "file").write_bytes(dice.randbytes(dice.choice([10, 1_000, 300_000])) * dice.choice([1, 8]))
        base = dice.choice(["scratch", "scratch", "localhost/base:1"])
        label = f"LABEL n={dice.randrange(1000)}\n"
        (path / "Containerfile").write_text(f"FROM {base}\nCOPY file /file-{dice.randrange(4)}\n{label}")
        return path


def any_name(dice: random.Random) -> str:
    """Return one of few names, so that actors get into each other's way."""
    return f"localhost/{dice.choice(NAMES)}:{dice.choice(TAGS)}"


class Builder(Changer):
    """Builds with podman, in both formats."""

    def act(self, dice: random.Random) -> None:
        """Build once."""
        kind = dice.choice(["oci", "docker"])
        self.podman("build", "--quiet", "--format", kind, "--tag", any_name(dice), str(self.context(dice)))


class Buildah(Changer):
    """Builds and commits with buildah, which emits no podman event."""

    def act(self, dice: random.Random) -> None:
        """Build once."""
        places = ("--root", str(self.store.directory / "r"), "--runroot", str(self.store.directory / "rr"))
        words = ("--isolation", "chroot", "--tag", any_name(dice), str(self.context(dice)))
        ask("buildah", *places, "build", "--quiet", *words)


class Tagger(Changer):
    """Gives names, moves them, and takes them off."""

    def act(self, dice: random.Random) -> None:
        """Tag or untag once."""
        names = self.names()
        if names:
            name = dice.choice(names)
            self.podman("tag", name, any_name(dice)) if dice.random() < 0.7 else self.podman("untag", name)


class Remover(Changer):
    """Removes images, by name or by force, but never the base."""

    def act(self, dice: random.Random) -> None:
        """Remove once, and let the others build up again."""
        names = [name for name in self.names() if name != "localhost/base:1"]
        if len(names) > 4:
            force = ("--force",) if dice.random() < 0.3 else ()
            self.podman("rmi", *force, dice.choice(names))
        if dice.random() < 0.1:
            self.podman("image", "prune", "--force")


class Lister(Changer):
    """Makes, edits and removes manifest lists."""

    def act(self, dice: random.Random) -> None:
        """Edit a list once."""
        name = f"localhost/{dice.choice(LISTS)}:1"
        names = self.names()
        if dice.random() < 0.2:
            self.podman("manifest", "rm", name)
        elif names:
            self.podman("manifest", "create", name)
            self.podman("manifest", "add", name, f"containers-storage:{dice.choice(names)}")


class Copier(Changer):
    """Copies images within the store with skopeo, and loads archives."""

    def act(self, dice: random.Random) -> None:
        """Copy once."""
        names = self.names()
        if names:
            source, target = dice.choice(names), any_name(dice)
            ask("skopeo", "copy", "--quiet", self.store.skopeo_name(source), self.store.skopeo_name(target))


@dataclass(slots=True)
class Killer:
    """Ends processes of podbridge with SIGKILL, and starts the service again as systemd would."""

    service: Service
    counts: Counter[str]

    def act(self, dice: random.Random) -> None:
        """Wait a while, then kill one."""
        time.sleep(dice.uniform(1, 6))  # as long as some of the store's changes take
        what = dice.choice(["service", "worker", "export", "export"])
        process = self.service.process
        if process is None:
            return
        if what == "service":
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            for pid in self._children(what):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.counts[f"kills of a {what}"] += 1
        if process.poll() is not None:
            self.counts["kills of a service"] += 1
            self._start()

    def _start(self) -> None:
        with self.service.log.open("ab") as log:
            command = [*PODBRIDGE, "--config", str(self.service.file), "serve"]
            self.service.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _children(self, what: str) -> list[int]:
        assert self.service.process is not None
        word = b"image\0save" if what == "export" else b"bridge.registry.worker"
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if word in (entry / "cmdline").read_bytes() and descends(int(entry.name), self.service.process.pid):
                    found.append(int(entry.name))
        return found[:1]


def descends(pid: int, ancestor: int) -> bool:
    """Return True if `ancestor` started the process, however distantly."""
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def main() -> int:
    """Run one storm, and print what was done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"storm: seed {options.seed}, {options.seconds:g} s", flush=True)
    with scratch() as directory:
        storm = Storm(directory, options.seed)
        try:
            storm.run(options.seconds)
        finally:
            print(json.dumps(dict(sorted(storm.counts.items())), indent=1))
    print(f"storm: seed {options.seed}: 0 findings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
