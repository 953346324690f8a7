"""The double's state directory, and what a test does to it.

<root>/
  bin/podman, bin/skopeo    the executables; both know this directory
  s                         where the service listens, by default
  state.json                every image with its names, replaced under a lock
  blobs/<hex>               layers, configs and manifests
  graph/overlay-images/     the doorbell: images.json is replaced at every change
  events.jsonl              what the events streams tail
  faults/, gates/           see `faults` and `gates`
  requests.log, saves.log, reads.log, services.log, exports.log
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.double.faults import Faults
from tests.double.gates import Gate
from tests.double.images import Made, hexdigest, make, text_layer

_CHECKOUT = Path(__file__).resolve().parents[2]
_PROGRAM = """#!{python} -I
import sys
sys.path.insert(0, {checkout!r})
from tests.double import {module}
sys.exit({module}.main({root!r}, sys.argv[1:]))
"""


@dataclass(slots=True)
class Double:
    """A podman store. With `rings` or `emits` off, a change rings no doorbell or emits no event."""

    root: Path
    rings: bool = True
    emits: bool = True

    @classmethod
    def create(cls, root: Path) -> "Double":
        """Make an empty store in a new directory."""
        double = cls(root)
        for directory in (root / "bin", root / "blobs", double.doorbell, root / "gates"):
            directory.mkdir(parents=True)
        for program, module in (("podman", "command"), ("skopeo", "skopeo")):
            path = root / "bin" / program
            path.write_text(
                _PROGRAM.format(python=sys.executable, checkout=str(_CHECKOUT), module=module, root=str(root))
            )
            path.chmod(0o755)
        for name in ("events.jsonl", "requests.log", "saves.log", "reads.log", "services.log", "exports.log"):
            (root / name).touch()
        (root / "state.json").write_text("{}")
        return double

    @property
    def command(self) -> list[str]:
        """The words that call this podman."""
        return [str(self.root / "bin" / "podman")]

    @property
    def socket(self) -> Path:
        """Where the service listens."""
        return self.root / "s"

    @property
    def doorbell(self) -> Path:
        """The directory in which images.json is replaced."""
        return self.root / "graph" / "overlay-images"

    @property
    def faults(self) -> Faults:
        """The queue of what goes wrong."""
        return Faults(self.root / "faults")

    def gate(self, name: str) -> Gate:
        """Return a gate of this name."""
        return Gate(self.root / "gates" / name)

    def blob(self, name: str) -> Path:
        """Where the bytes of a layer, config or manifest lie."""
        return self.root / "blobs" / name

    def images(self) -> dict[str, Any]:
        """Return every image by ID."""
        found: dict[str, Any] = json.loads((self.root / "state.json").read_text())
        return found

    def find(self, text: str) -> dict[str, Any] | None:
        """Return the image of an ID or a name."""
        name = full_name(text)
        for image in self.images().values():
            if image["Id"] == text or name in image["RepoTags"]:
                return dict(image)
        return None

    def log(self, name: str) -> list[str]:
        """Return the lines of one of the logs."""
        return (self.root / f"{name}.log").read_text().splitlines()

    def note(self, name: str, line: str) -> None:
        """Add a line to one of the logs."""
        append(self.root / f"{name}.log", line)

    def build(self, name: str, *texts: str, size: int = 0, note: str = "") -> Made:
        """Add an image with one layer for each text; `size` is in bytes, of each layer."""
        made = make([text_layer(text, size) for text in texts or (name,)], note=note)
        self.add(made, name)
        return made

    def add(self, made: Made, *names: str, action: str = "build", when: int | None = None) -> None:
        """Add an image under these names, which other images lose. It was made at `when`, in nanoseconds, or now."""
        for content in (*made.layers, made.config, made.manifest):
            path = self.blob(hexdigest(content))
            if not path.exists():
                path.write_bytes(content)
        with self.change() as state:
            entry = state.setdefault(made.id, _entry(made, time.time_ns() if when is None else when))
            _store_manifest(entry, made)
            _name(state, entry, names)
        self.emit(action, made.id, actor="")

    def tag(self, image_id: str, *names: str) -> None:
        """Give an image more names, which other images lose."""
        with self.change() as state:
            _name(state, state[image_id], names)
        for name in names:
            self.emit("tag", name, actor=image_id)

    def untag(self, *names: str) -> None:
        """Take names away; the image stays."""
        with self.change() as state:
            for image in state.values():
                image["RepoTags"] = [name for name in image["RepoTags"] if name not in names]
        for name in names:
            self.emit("untag", name)

    def remove(self, image_id: str) -> None:
        """Remove an image with all its names; its bytes go too, as far as no other image has them."""
        with self.change() as state:
            gone = state.pop(image_id)
            needed = {name for image in state.values() for name in image["blobs"]}
        for name in set(gone["blobs"]) - needed:
            self.blob(name).unlink(missing_ok=True)
        self.emit("remove", image_id, actor=image_id)

    def damage(self, image_id: str, part: str) -> None:
        """Lose a part of an image: its `manifest`, its `config` or its `layer`; see `server.refusal`."""
        with self.change() as state:
            state[image_id]["lost"] = part

    def ring(self) -> None:
        """Replace images.json as containers/storage does: by a temporary file and a rename."""
        temporary = self.doorbell / f".tmp-images.json{os.getpid()}"
        temporary.write_text(str(time.time_ns()))
        temporary.rename(self.doorbell / "images.json")

    def emit(self, action: str, name: str, *, actor: str = "", kind: str = "image") -> None:
        """Write an event, as podman words it."""
        if self.emits:
            append(self.root / "events.jsonl", json.dumps(event(action, name, actor=actor, kind=kind)))

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Have every image by ID, to change them as the listing shows them."""
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.images()
            yield state
            temporary = self.root / "state.new"
            temporary.write_text(json.dumps(state))
            temporary.rename(self.root / "state.json")
        if self.rings:
            self.ring()


def event(action: str, name: str, *, actor: str = "", kind: str = "image") -> dict[str, Any]:
    """Return an event as podman words it."""
    now = time.time()
    return {
        "status": action,
        "id": actor,
        "Type": kind,
        "Action": action,
        "Actor": {"ID": actor, "Attributes": {"name": name}},
        "scope": "local",
        "time": int(now),
        "timeNano": int(now * 1e9),
    }


def full_name(text: str) -> str:
    """Return the name that podman stores for a short one."""
    tagged = text if ":" in text.rpartition("/")[2] else f"{text}:latest"
    return tagged if "/" in tagged else f"localhost/{tagged}"


def append(path: Path, line: str) -> None:
    """Add a line in one write, so that the lines of several processes do not mix."""
    with path.open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


def _entry(made: Made, when: int) -> dict[str, Any]:
    return {
        "Id": made.id,
        "RepoTags": [],
        "Digest": made.digest,
        "Labels": dict(made.labels),
        "Created": when // 10**9,
        "when": when,
        "Size": sum(map(len, made.layers)),
        "ManifestType": made.media_type,
        "digests": [],
        "manifest": hexdigest(made.manifest),
        "layers": list(made.layer_names),
        "blobs": [*made.layer_names, made.id, hexdigest(made.manifest)],
    }


def _store_manifest(entry: dict[str, Any], made: Made) -> None:
    """Make a manifest the current one of its image; the image keeps the digest of the first (4.3.1)."""
    name = hexdigest(made.manifest)
    entry["manifest"], entry["ManifestType"] = name, made.media_type
    entry["digests"] = list(dict.fromkeys([*entry["digests"], made.digest]))
    entry["blobs"] = list(dict.fromkeys([*entry["blobs"], name]))


def _name(state: Mapping[str, Any], entry: dict[str, Any], names: Sequence[str]) -> None:
    for image in state.values():
        image["RepoTags"] = [name for name in image["RepoTags"] if name not in names]
    entry["RepoTags"] += names
