"""Exports over podman's REST service: with no program of podman's here, and with all that can go wrong in a stream."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import PodmanError
from bridge.oci import Digest
from bridge.plan import Image
from bridge.podman.client import Podman
from bridge.publish.export import Exporter
from bridge.publish.rest import Rest
from bridge.tree.publisher import Tree
from tests.double import images, server
from tests.double.gates import DEADLINE, Gate, eventually
from tests.faults.world import World

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "refused": ({"kind": "fail", "words": "no space left on device"}, "podman answered 500: no space left on device"),
    "cut stream": ({"kind": "cut"}, "closed the connection in the middle"),
    "short archive": ({"kind": "short", "bytes": 11000}, "cut short|left out|is missing"),
    "no layer": ({"kind": "no layer", "times": 2}, "left out layer|no manifest"),
    "no config": ({"kind": "no config"}, "is missing"),
    "wrong bytes": ({"kind": "wrong bytes"}, "with bytes of digest"),
    "absolute path": ({"kind": "strange path", "path": "/etc/evil"}, "'/etc/evil', which is no part"),
    "path upwards": ({"kind": "strange path", "path": "blobs/sha256/../../../../evil"}, "no part of an image"),
    "upper-case digest": ({"kind": "strange path", "path": f"blobs/sha256/{'A' * 64}"}, "no part of an image"),
    "path that goes on": ({"kind": "strange path", "path": f"blobs/sha256/{'a' * 64}/x"}, "no part of an image"),
    "false name": ({"kind": "strange path", "path": f"blobs/sha256/{'a' * 64}"}, "with bytes of digest"),
    "symbolic link": ({"kind": "strange type", "type": "2"}, "no part of an image"),
    "hard link": ({"kind": "strange type", "type": "1"}, "no part of an image"),
    "device": ({"kind": "strange type", "type": "3"}, "no part of an image"),
    "named pipe": ({"kind": "strange type", "type": "6"}, "no part of an image"),
    "blob twice": ({"kind": "twice"}, "twice"),
    "blob of a terabyte": ({"kind": "oversize", "size": 1 << 40}, "cut short"),
}


@pytest.fixture
def rest(world: World) -> World:
    """A world without podman's program, and without skopeo's."""
    socket = f"unix://{world.double.socket}"
    world.settings["podman"] = {"socket": socket, "command": ["/nowhere/podman"], "export": "rest"}
    for program in ("podman", "skopeo"):
        (world.double.root / "bin" / program).write_text("#!/bin/sh\nexit 3\n")
    return world


async def test_images_are_published_exactly_and_no_program_runs(rest: World) -> None:
    oci = rest.double.build("localhost/oci:1", "base", "own")
    docker = images.make([images.text_layer("docker")], media_type=images.DOCKER)
    rest.double.add(docker, "localhost/docker:1")
    async with rest.podman(), rest.service():
        assert rest.shown() == {"oci:1": oci.id, "docker:1": docker.id}
        assert await rest.pull("oci", oci.digest) == oci.id
        assert await rest.pull("docker", docker.digest) == docker.id
        await eventually(lambda: rest.staged() == [])
    assert (rest.double.log("saves"), rest.double.log("services")) == ([], [])


async def test_layers_that_the_tree_holds_are_not_written_again(rest: World) -> None:
    rest.double.build("localhost/app:1", "base", "own 1")
    async with rest.podman(), rest.service():
        blobs = rest.tree / "blobs" / "sha256"
        before = {path.name: path.stat().st_ino for path in blobs.iterdir()}
        made = rest.double.build("localhost/app:2", "base", "own 2")
        await eventually(lambda: rest.shown().get("app:2") == made.id)
        assert before == {name: (blobs / name).stat().st_ino for name in before}
        assert await rest.pull("app", "2") == made.id


def hold_again(world: World, kind: str, **details: Any) -> Gate:
    """Have the next export fail so, and the one after it wait at the gate that is returned."""
    again = world.double.gate("again")
    world.double.faults.add("export", kind, **details)
    world.double.faults.add("export", "hold", gate=str(again.path))
    return again


@pytest.mark.parametrize("name", FAULTS)
async def test_a_stream_that_is_not_whole_is_told_leaves_nothing_and_is_tried_again(rest: World, name: str) -> None:
    details, words = FAULTS[name]
    again = hold_again(rest, **details)
    async with rest.podman(), rest.service():
        made = rest.double.build("localhost/app:1", "base", "own")
        assert re.search(words, told := await rest.failed("app:1")), told
        await again.reached()
        assert (len(rest.staged()), rest.shown()) == (1, {}), "staging is that of the second try alone"
        assert sorted(path.name for path in rest.directory.iterdir()) == ["c", "d", "podbridge.yaml", "tree"]
        again.open()
        await rest.shows({"app:1": made.id})
        assert await rest.pull("app", "1") == made.id


async def test_a_layer_that_an_oci_archive_lacks_is_taken_from_a_docker_archive(rest: World) -> None:
    """podman 5 leaves layers out of an OCI archive that may not be distributed."""
    rest.double.faults.add("export", "no layer")
    async with rest.podman(), rest.service():
        made = rest.double.build("localhost/app:1", "base", "own")
        await rest.shows({"app:1": made.id})
        assert await rest.pull("app", "1") == made.id
    assert [line.partition(" ")[0] for line in rest.double.log("exports")] == ["oci-archive", "docker-archive"]


@pytest.mark.parametrize("fault", ["cut", "short", "no config", "wrong bytes"])
async def test_a_docker_archive_that_is_not_whole_is_refused_too(rest: World, fault: str) -> None:
    again = hold_again(rest, fault, bytes=11000)
    async with rest.podman(), rest.service():
        made = images.make([images.text_layer("docker")], media_type=images.DOCKER)
        rest.double.add(made, "localhost/app:1")
        await rest.failed("app:1")
        await again.reached()
        assert (len(rest.staged()), rest.shown()) == (1, {}), "staging is that of the second try alone"
        again.open()
        await rest.shows({"app:1": made.id})


async def test_an_image_that_is_removed_during_its_export_leaves_no_trace(rest: World) -> None:
    async with rest.podman(), rest.service():
        held = rest.double.gate("export")
        rest.double.faults.add("export", "hold", gate=str(held.path))
        made = rest.double.build("localhost/app:1", "one")
        await held.reached()
        rest.double.remove(made.id)
        held.open()
        await eventually(lambda: rest.staged() == [])
        await eventually(lambda: rest.shown() == {})
        await rest.settled()
        assert (rest.shown(), await rest.failures()) == ({}, {})


async def test_a_podman_that_goes_away_during_an_export_is_met_again(rest: World) -> None:
    held = rest.double.gate("export")
    async with rest.service(ready=0):
        async with rest.podman():
            rest.double.faults.add("export", "hold", gate=str(held.path))
            made = rest.double.build("localhost/app:1", "one")
            await held.reached()
        assert rest.shown() == {}
        await eventually(lambda: rest.staged() == [])
        async with rest.podman():
            await rest.shows({"app:1": made.id})


async def test_stopping_during_an_export_leaves_nothing(rest: World) -> None:
    held = rest.double.gate("export")
    async with rest.podman():
        async with rest.service():
            rest.double.faults.add("export", "hold", gate=str(held.path))
            rest.double.build("localhost/app:1", "one")
            await held.reached()
        assert (rest.staged(), rest.shown()) == ([], {})
        held.open()


async def test_a_stream_that_stalls_is_given_up(world: World) -> None:
    held = world.double.gate("export")
    made = world.double.build("localhost/app:1", "one")
    world.double.faults.add("export", "hold", gate=str(held.path))
    async with server.serving(world.double), Podman(world.double.socket) as podman:
        with Tree(world.tree) as tree:
            exporter = Exporter(podman, Rest(podman, stall=0.2), tree)
            with pytest.raises(PodmanError, match=r"no progress for 0\.2 s"):
                async with asyncio.timeout(DEADLINE), exporter.export(Image(made.id)):
                    pass
        assert world.staged() == []
        held.open()


async def test_a_manifest_list_is_refused_with_the_way_out(world: World, tmp_path: Path) -> None:
    async with Podman(tmp_path / "nobody") as podman:
        with Tree(world.tree) as tree:
            exporter = Exporter(podman, Rest(podman), tree)
            image = Image("a" * 64, ("localhost/list:1",), digest=Digest.of(b""), is_list=True)
            with pytest.raises(Exception, match=r"localhost/list:1 .*podman\.export: local"):
                async with exporter.export(image):
                    pass
