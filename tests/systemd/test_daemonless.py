"""Without a daemon: a path unit starts one pass after each change, the registry runs while it is used."""

import itertools
import time

from tests.end_to_end.programs import eventually
from tests.systemd.box import Box
from tests.systemd.conftest import SYSTEM

_SYNC, _REGISTRY = "podbridge-sync.service", "podbridge-registry.service"
_UNITS = {
    **{name: f"{SYSTEM}/{name}" for name in (_SYNC, "podbridge-sync.path", "podbridge-sync.timer", _REGISTRY)},
    "daemonless.conf": f"{SYSTEM}/podbridge-registry.socket.d/daemonless.conf",
}


def test_what_is_built_is_published_by_the_path_unit_and_served_while_somebody_pulls(box: Box) -> None:
    box.install(_UNITS)
    box.build("localhost/before:1")
    box.run("systemctl", "enable", "--now", "podbridge-sync.path", "podbridge-sync.timer", "podbridge-registry.socket")
    digest = box.build("localhost/app:1")
    eventually(lambda: box.shows("app", digest))
    assert box.unit("ActiveState", "podbridge.service") == "inactive"
    assert box.unit("User", _REGISTRY) == "podbridge"


def test_a_change_during_a_pass_makes_another_pass(box: Box) -> None:
    """systemd's path unit is deaf while the unit runs that it has started."""
    box.install(_UNITS)
    gate = "while [ ! -e /gate ]; do sleep 0.05; done"
    slow = f'#!/bin/sh\ncase "$*" in *"image save"*) {gate};; esac\nexec /usr/bin/podman "$@"\n'
    box.write("/usr/local/bin/podman", slow, 0o755)
    box.run("systemctl", "enable", "--now", "podbridge-sync.path", "podbridge-registry.socket")
    box.build("localhost/first:1")
    eventually(lambda: box.ask("pgrep", "--full", "image save").returncode == 0)
    digest = box.build("localhost/second:1")
    box.run("touch", "/gate")
    eventually(lambda: box.shows("second", digest))
    eventually(lambda: box.unit("ActiveState", _SYNC) == "inactive")


def test_an_idle_registry_ends_and_loses_no_request(box: Box) -> None:
    box.install(_UNITS)
    box.write("/etc/podbridge/podbridge.yaml", "registry: {idle_exit: 1s}\n")
    box.run("systemctl", "start", "podbridge-registry.socket")
    assert box.get("/v2/").status == 200
    eventually(lambda: box.unit("ActiveState", _REGISTRY) == "inactive")
    assert box.unit("Result", _REGISTRY) == "success"

    for pause in itertools.cycle((0.9, 1.1, 1.5, 1.9, 3.0)):  # near the moment at which it ends, and at last behind it
        assert box.get("/v2/").status == 200
        if box.journal(_REGISTRY).count("Started podbridge-registry.service") >= 3:
            break
        time.sleep(pause)  # what is tried: a request that comes just when it ends
