"""The double's `podman`: the commands that podbridge calls, and those that the contract tests call."""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.double import images, save
from tests.double.store import Double, full_name

_TYPES = {"oci": images.OCI, "docker": images.DOCKER}


def main(root: str, words: list[str]) -> int:
    """Run one command on the store in `root`; return the exit code."""
    asked = _parser().parse_args(words)
    code: int = asked.run(Double(Path(root)), asked)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="podman")
    verbs = parser.add_subparsers(required=True)
    of_images = verbs.add_parser("image").add_subparsers(required=True)
    push = of_images.add_parser("push")
    push.add_argument("--quiet", action="store_true")
    push.add_argument("image")
    push.add_argument("destination")
    push.set_defaults(
        run=lambda double, asked: save.push(double, Path(asked.destination.removeprefix("dir:")), asked.image)
    )
    image = of_images.add_parser("save")
    for switch in ("--quiet", "--uncompressed"):
        image.add_argument(switch, action="store_true")
    image.add_argument("--format", choices=("oci-dir", "docker-dir"))
    image.add_argument("--output", type=Path)
    image.add_argument("image")
    image.set_defaults(run=lambda double, asked: save.run(double, asked.format, asked.output, asked.image))
    service = verbs.add_parser("system").add_subparsers(required=True).add_parser("service")
    service.add_argument("--time")
    service.add_argument("address")
    service.set_defaults(run=_service)
    info = verbs.add_parser("info")
    info.add_argument("--format", choices=("{{.Store.GraphRoot}}",), required=True)
    info.set_defaults(run=_info)
    build = verbs.add_parser("build")
    for switch in ("--quiet", "--no-cache"):
        build.add_argument(switch, action="store_true")
    build.add_argument("--isolation")
    build.add_argument("--tag")
    build.add_argument("--timestamp")
    build.add_argument("--annotation", action="append", default=[])
    build.add_argument("--format", choices=("oci", "docker"), default="oci")
    build.add_argument("directory", type=Path)
    build.set_defaults(run=_build)
    for verb, run in (("tag", _tag), ("untag", _untag), ("rmi", _rmi)):
        simple = verbs.add_parser(verb)
        simple.add_argument("image")
        simple.add_argument("names", nargs="*")
        simple.add_argument("-f", action="store_true")
        simple.set_defaults(run=run)
    return parser


def _service(double: Double, asked: argparse.Namespace) -> int:
    double.note("services", str(os.getpid()))
    fault = double.faults.take("service")
    if fault.kind == "fail":
        sys.stderr.write(f"Error: {fault['words']}\n")
        return 125
    from tests.double import server  # noqa: PLC0415 - aiohttp takes 300 ms to import

    server.run(double, Path(asked.address.removeprefix("unix://")))
    return 0


def _info(double: Double, _: argparse.Namespace) -> int:
    print(double.root / "graph")
    return 0


def _build(double: Double, asked: argparse.Namespace) -> int:
    """Make an image of one layer from the files that a `COPY` would copy."""
    files = {path.name: path.read_bytes() for path in sorted(asked.directory.iterdir()) if path.name != "Containerfile"}
    note = asked.timestamp or str(time.time_ns())
    annotations = dict(text.split("=", 1) for text in asked.annotation)
    made = images.make([images.layer(files)], note=note, media_type=_TYPES[asked.format], annotations=annotations)
    when = int(asked.timestamp) * 10**9 if asked.timestamp else None
    double.add(made, *([full_name(asked.tag)] if asked.tag else []), when=when)
    print(made.id)
    return 0


def _tag(double: Double, asked: argparse.Namespace) -> int:
    image = double.find(asked.image)
    if image is None:
        return _unknown(asked.image)
    emits, double.emits = double.emits, False
    double.tag(image["Id"], *map(full_name, asked.names))
    double.emits = emits
    for name in asked.names:
        double.emit("tag", name, actor=image["Id"])
    return 0


def _untag(double: Double, asked: argparse.Namespace) -> int:
    image = double.find(asked.image)
    if image is None:
        return _unknown(asked.image)
    double.untag(*(map(full_name, asked.names) if asked.names else image["RepoTags"]))
    return 0


def _rmi(double: Double, asked: argparse.Namespace) -> int:
    """Remove a name; the image goes with its last one. Both are told as `untag` and `remove`."""
    image = double.find(asked.image)
    if image is None:
        _unknown(asked.image)
        return 1
    if asked.image == image["Id"] or image["RepoTags"] == [full_name(asked.image)]:
        double.remove(image["Id"])
    else:
        double.untag(full_name(asked.image))
        double.emit("remove", image["Id"], actor=image["Id"])
    return 0


def _unknown(text: str) -> int:
    sys.stderr.write(f"Error: {text}: image not known\n")
    return 125
