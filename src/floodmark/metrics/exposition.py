"""Values → the text that Prometheus reads, and the registry that its library pushes and writes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from floodmark.metrics.catalogue import Metric
from floodmark.metrics.values import Value

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Family = CounterMetricFamily | GaugeMetricFamily


class _Values(Collector):
    """Collects anew, each time it is asked, what a function gives."""

    def __init__(self, values: Callable[[], Iterable[Value]]) -> None:
        self._values = values

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for one in self._values():
            family = families.setdefault(one.metric.name, _family(one.metric))
            family.add_metric(one.labels, float(one.value))
        yield from families.values()

    def describe(self) -> Iterator[Family]:
        return iter(())


def registry(values: Callable[[], Iterable[Value]]) -> CollectorRegistry:
    """A registry that shows what the function gives whenever it is asked."""
    made = CollectorRegistry()
    made.register(_Values(values))
    return made


def text(values: Iterable[Value]) -> bytes:
    """The values in Prometheus' text format."""
    kept = tuple(values)
    return generate_latest(registry(lambda: kept))


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
