"""The metrics of a running service: what happens is counted as it happens, what is, when Prometheus asks."""

import asyncio
import platform
import time
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.changes import Action, Change
from bridge.conditions import Kind
from bridge.control.schema import State
from bridge.publish import threads
from bridge.service.steering import Steering
from bridge.tree.measure import Held, measure

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_FRESH = 30.0
"""Seconds for which a count of the tree's files is good enough."""


class Metrics:
    """Listens to changes, and answers a Prometheus server."""

    def __init__(self, steering: Steering) -> None:
        self._reconciler = steering.reconciler
        self._registry = CollectorRegistry()
        self._changes = Counter(
            "podbridge_changes", "Changes of references, by what happened.", ["action"], registry=self._registry
        )
        for action in Action:
            self._changes.labels(str(action))
        self._read = Counter(
            "podbridge_export_read_bytes", "Bytes of layers that podman read for exports.", registry=self._registry
        )
        self._exports = Histogram(
            "podbridge_export_seconds", "Time of exports that were published.",
            registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        self._lag = Histogram(
            "podbridge_publish_lag_seconds",
            "From the first sign of a change in podman's store to its publication.",
            registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        self._now = _Now(steering)
        self._registry.register(self._now)
        self._measured = 0.0
        self._measuring = asyncio.Lock()

    def hear(self, change: Change) -> None:
        """Count a change."""
        self._changes.labels(str(change.action)).inc()
        if change.action is not Action.PUBLISHED:
            return
        if change.seconds:
            self._exports.observe(change.seconds)
            self._read.inc(change.read)
        if change.image is not None:
            noticed = self._reconciler.noticed.since(change.reference, change.image.source)
            if noticed is not None:
                self._lag.observe(time.monotonic() - noticed)

    async def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        async with self._measuring:
            if not self._measured or time.monotonic() - self._measured > _FRESH:
                self._now.held = await threads.run(measure, self._reconciler.parts.tree.paths)
                self._measured = time.monotonic()
        return generate_latest(self._registry)


class _Now(Collector):
    """What is read from the parts at the moment of asking. `held` is counted before, off the event loop."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self.held = Held()

    def collect(self) -> Iterable[Metric]:
        """Yield every metric family."""
        facts, parts = self._steering.facts, self._steering.reconciler.parts
        versions = {"version": __version__, "podman": facts.podman, "python": platform.python_version()}
        yield InfoMetricFamily("podbridge_build", "Versions.", versions)
        yield _gauge("podbridge_start_time_seconds", "When the service started, since the epoch.", facts.started)
        up = parts.conditions[Kind.PODMAN_REACHABLE].status is True
        yield _gauge("podbridge_podman_up", "Whether podman answers.", up)
        yield self._conditions()
        yield self._publications()
        yield from self._tree()
        yield from self._traffic()
        passes = CounterMetricFamily("podbridge_passes", "Passes of the reconciler, by result.", labels=["result"])
        for result in ("changed", "unchanged", "failed"):
            passes.add_metric([result], self._steering.reconciler.passes[result])
        yield passes

    def _conditions(self) -> Metric:
        family = GaugeMetricFamily("podbridge_condition", "Whether a condition holds.", labels=["type"])
        for condition in self._steering.reconciler.parts.conditions:
            family.add_metric([str(condition.kind)], condition.status is True)
        return family

    def _publications(self) -> Metric:
        tally = Tally(view.state for view in self._steering.publications())
        family = GaugeMetricFamily("podbridge_publications", "References, by state.", labels=["state"])
        for state in State:
            family.add_metric([str(state)], tally[state])
        return family

    def _traffic(self) -> Iterable[Metric]:
        """Yield what the processes that answer pulls have told; it is up to a second old."""
        traffic = self._steering.workers.traffic
        requests = CounterMetricFamily("podbridge_registry_requests", "Requests, by HTTP status.", labels=["code"])
        for code, count in sorted(traffic.requests.items()):
            requests.add_metric([str(code)], count)
        yield requests
        sent = CounterMetricFamily(
            "podbridge_registry_sent_bytes", "Bytes of bodies, by content coding.", labels=["encoding"]
        )
        for coding in sorted({"identity", "gzip", *traffic.sent}):
            sent.add_metric([coding], traffic.sent.get(coding, 0))
        yield sent
        yield _gauge("podbridge_registry_connections", "Connections of clients now.", traffic.connections)

    def _tree(self) -> Iterable[Metric]:
        blobs, encodings = self.held.blobs, self.held.encodings
        yield _gauge("podbridge_tree_blobs", "Blobs in the tree.", blobs.files)
        yield _gauge("podbridge_tree_bytes", "Bytes of the blobs in the tree.", blobs.size)
        yield _gauge("podbridge_encodings", "Gzip encodings of blobs.", encodings.files)
        yield _gauge("podbridge_encodings_bytes", "Bytes of the encodings.", encodings.size)


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value)
