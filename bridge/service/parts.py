"""Building what reconciles: rules, an exporter, a reconciler."""

from bridge.conditions import Conditions
from bridge.config import Config
from bridge.hooks.calling import Hooks
from bridge.podman.client import Podman
from bridge.podman.save import Commands
from bridge.policy import Policy
from bridge.publish.export import Exporter
from bridge.publish.job import Transport
from bridge.publish.local import Local
from bridge.publish.parts import Bounds, Parts
from bridge.publish.reconcile import Reconciler
from bridge.publish.rest import Rest
from bridge.service import hosts
from bridge.service.connecting import exports_over_rest
from bridge.tree.publisher import Tree
from bridge.units import Address


def policy(config: Config, address: Address | None = None) -> Policy:
    """Return the policy of the configuration, for a registry that listens on `address`."""
    listen = address or config.registry.listen
    return Policy(config.publish, frozenset(map(listen.of, hosts.own(listen.host))), config.keep)


def reconciler(config: Config, podman: Podman, tree: Tree, conditions: Conditions, rules: Policy) -> Reconciler:
    """Build the reconciler of a configuration."""
    exporter = Exporter(podman, transport(config, podman), tree)
    hooks = Hooks(config.hooks.directories)
    return Reconciler(Parts(podman, exporter, tree, rules, conditions, bounds(config), hooks=hooks))


def transport(config: Config, podman: Podman) -> Transport:
    """Return the way that the configuration has for images out of podman."""
    return Rest(podman) if exports_over_rest(config) else Local(podman, Commands(config.podman.command))


def bounds(config: Config) -> Bounds:
    """Return what a reconciler keeps to."""
    return Bounds(config.resync, config.grace, config.max_withdraw)
