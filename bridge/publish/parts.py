"""What a reconciler works with, and what it keeps to."""

from dataclasses import dataclass, field

from bridge.changes import Changes
from bridge.conditions import Conditions
from bridge.podman.client import Podman
from bridge.policy import Policy
from bridge.publish.export import Exporter
from bridge.tree.publisher import Tree


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a reconciler keeps to.

    `resync` is the time until a full look without a poke, `grace` until superseded blobs are swept, both
    in seconds. `max_withdraw` is the fraction of all publications beyond which a pass withdraws nothing.
    """

    resync: float = 300
    grace: float = 3600
    max_withdraw: float = 0.5


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reconciler works with. All but `policy` and `bounds` stays for as long as it runs."""

    podman: Podman
    exporter: Exporter
    tree: Tree
    policy: Policy
    conditions: Conditions
    bounds: Bounds = Bounds()
    changes: Changes = field(default_factory=Changes)
