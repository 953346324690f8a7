"""Publish a release as operators have it, version after version, with podbridge and with its rivals.

    python -m tests.benchmarks.release [--images N] [--json FILE] [--directory DIR] [--quick]

Run it as root with podman, skopeo, docker-registry, 2 GB of software in /usr, and 10 GB free below DIR. 60
images of 8 to 12 layers share 5; every other one has docker's format. Each of the 4 versions changes the last
layer of every image. The rivals take turns, on the same store: cold (version 1, nothing published yet), again
(nothing changed), next (each later version). Ratios are of medians, rival over podbridge; there is no floor.
`skopeo sync` is not among them: it cannot read podman's store (skopeo-sync(1)), `skopeo copy` can.
It takes about 5 minutes on 2 cores.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Self

from tests.end_to_end.programs import scratch
from tests.end_to_end.stores import Store

from .images import BASE, Named, Size, build, build_base, podman_name
from .machine import facts
from .report import say, say_facts, write
from .results import Results, say_results
from .rivals import PODBRIDGE, PUSH, UNCOMPRESSED, Update, installed
from .software import MB, Software

PHASES = ("cold", "again", "next")
VERSIONS = 4
QUICK_VERSIONS = 2
FULL = Size(images=60, layer=1 * MB, base_layers=5, base_layer=5 * MB)
QUICK = Size(images=4, layer=MB // 20, base_layers=5, base_layer=MB // 10)
OWN_LAYERS = range(3, 8)
"""How many layers an image has above the base: so many in turn."""
MANIFESTS = ("oci", "docker")


@dataclass(slots=True)
class Release(Named):
    """A store that holds a release; `trunks` are the IDs of its images without their last layer, by repository."""

    size: Size
    trunks: dict[str, str] = field(default_factory=dict)
    version: int = 0
    software: Software = field(default_factory=Software)
    filling: Lock = field(default_factory=Lock)

    @classmethod
    def build(cls, store: Store, size: Size) -> Self:
        """Build version 1 into an empty store."""
        release = cls(store, {}, size)
        build_base(store, size, release.software, release.contexts)
        bases = {f"app{number:02}": BASE for number in range(1, size.images + 1)}
        release.trunks = release._build_all(bases, release._build_trunk)
        store.podman("untag", BASE)
        release.advance()
        return release

    @property
    def contexts(self) -> Path:
        """Where the build contexts are."""
        return self.store.directory / "contexts"

    def advance(self) -> None:
        """Build the next version of every image, which takes over its name."""
        self.version += 1
        self.ids = self._build_all(self.trunks, self._build_last)

    def _build_all(self, parents: Mapping[str, str], build: Callable[[str, str], str]) -> dict[str, str]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(parents, pool.map(build, parents, parents.values()), strict=True))

    def _build_trunk(self, name: str, parent: str) -> str:
        count = OWN_LAYERS[int(name.removeprefix("app")) % len(OWN_LAYERS)] - 1
        return self._build(name, parent, [f"own{number}" for number in range(1, count + 1)])

    def _build_last(self, name: str, parent: str) -> str:
        return self._build(name, parent, [f"version{self.version}"], podman_name(name))

    def _build(self, name: str, parent: str, layers: Sequence[str], tag: str | None = None) -> str:
        context = self.contexts / f"{name}-{layers[0]}"
        with self.filling:
            for layer in layers:
                self.software.fill(context / layer, self.size.layer)
        containerfile = "".join([f"FROM {parent}\n", *(f"COPY {layer} /{layer}\n" for layer in layers)])
        manifest = MANIFESTS[int(name.removeprefix("app")) % len(MANIFESTS)]
        return build(self.store, context, containerfile, tag, manifest)


def compete(store: Store, size: Size, versions: int) -> Results:
    """Build version after version, and let the rivals publish each; another one begins each time."""
    results, rivals = Results(), installed((PODBRIDGE, PUSH, UNCOMPRESSED))
    say(f"building version 1 of {size.images} images")
    release = Release.build(store, size)
    with ExitStack() as stack:
        updates = {}
        for number, rival in enumerate(rivals):
            directory = store.directory / f"out{number}"
            directory.mkdir()
            updates[rival.name] = stack.enter_context(rival.begin(release, directory))
        publish(updates, ("cold", "again"), results)
        for version in range(2, versions + 1):
            say(f"building version {version}")
            release.advance()
            turn = [*updates.items()]
            start = (version - 1) % len(turn)
            publish(dict(turn[start:] + turn[:start]), ("next",), results)
    say()
    return results


def publish(updates: Mapping[str, Update], phases: Sequence[str], results: Results) -> None:
    """Let the rivals publish what the store holds now, one after the other."""
    for name, update in updates.items():
        for phase in phases:
            cost = update()
            results.costs.setdefault((name, phase), []).append(cost)
            say(f"  {name:<40} {phase:<8} {cost.wall:7.2f} s wall {cost.cpu:7.2f} s cpu")


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.release")
    parser.add_argument("--images", type=int, metavar="N", help=f"how many images (default {FULL.images})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into FILE")
    directory = Path(tempfile.gettempdir())
    parser.add_argument("--directory", type=Path, default=directory, metavar="DIR", help="work below DIR")
    parser.add_argument("--quick", action="store_true", help="few images, tiny layers, and two versions")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run the benchmark; 2 for a wrong command line."""
    arguments = parse(words)
    size, versions = (QUICK, QUICK_VERSIONS) if arguments.quick else (FULL, VERSIONS)
    if arguments.images is not None:
        size = replace(size, images=arguments.images)
    machine = facts(arguments.directory)
    say_facts(machine)
    with scratch(arguments.directory) as directory:
        results = compete(Store(directory), size, versions)
    say_results(results, PHASES)
    write(arguments.json, {"machine": machine, **results.figures()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
