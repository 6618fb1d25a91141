"""Values as a registry, which prometheus_client serves, pushes and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from floodmark.metrics.catalogue import Metric
from floodmark.metrics.values import MetricValue

Family = CounterMetricFamily | GaugeMetricFamily


class _Values(Collector):
    """A collector that calls a function for new values at each request."""

    def __init__(self, values: Callable[[], Iterable[MetricValue]]) -> None:
        self._values = values

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for one in self._values():
            family = families.setdefault(one.metric.name, _family(one.metric))
            family.add_metric(one.labels, float(one.value))
        yield from families.values()

    def describe(self) -> Iterator[Family]:
        return iter(())


def registry(values: Callable[[], Iterable[MetricValue]]) -> CollectorRegistry:
    """Return a registry that shows the function's current values at each request."""
    made = CollectorRegistry()
    made.register(_Values(values))
    return made


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
