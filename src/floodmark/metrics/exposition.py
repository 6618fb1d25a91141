"""Values as a registry, which prometheus_client serves, pushes and writes, and as lines of text to keep."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from floodmark.metrics.catalogue import ALL, Metric
from floodmark.metrics.values import MetricValue

Family = CounterMetricFamily | GaugeMetricFamily
# The lines of series, by the name of their metric.
Lines = Mapping[str, bytes]

# The format that every Prometheus reads. Lines in it can be kept, and joined.
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_FAST = 1  # the level of compression: the text repeats itself, so that it shrinks to a twentieth all the same
_GZIP = 31  # zlib's number for gzip's own header
STATE_LABEL = "state_url"


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


def registry_page(shown: CollectorRegistry) -> WSGIApplication:
    """Return prometheus_client's own page of a registry."""
    page: WSGIApplication = make_wsgi_app(shown)
    return page


def lines_of(values: Iterable[MetricValue]) -> dict[str, bytes]:
    """Return the lines of the values' series by metric, as prometheus_client writes them."""
    kept = list(values)
    whole = b"\n" + generate_latest(registry(lambda: kept))
    found = {}
    for part in whole.split(b"\n# HELP ")[1:]:  # a label's line break is escaped, so this is always a new metric
        about, _, rest = part.partition(b"\n")
        name = about.partition(b" ")[0].decode()
        found[name] = rest.partition(b"\n")[2].rstrip(b"\n") + b"\n"
    return found


def with_state(values: Iterable[MetricValue], state: str) -> Iterator[MetricValue]:
    """Yield the values with one more label, the location of their state."""
    for one in values:
        yield MetricValue(_labelled(one.metric), (*one.labels, state), one.value)


def joined(several: Sequence[Lines]) -> list[bytes]:
    """Return the text of all lines, in pieces. A metric's series follow its description."""
    pieces = []
    for metric in ALL:
        found = [lines[metric.name] for lines in several if metric.name in lines]
        if found:
            pieces += [_description(metric), *found]
    return pieces


def text_page(text: Callable[[], list[bytes]]) -> WSGIApplication:
    """Return a page that shows the text of the function, in pieces, and compresses it if the client wants that."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        pieces, headers = text(), [("Content-Type", _TEXT)]
        if accepts_gzip(environ):
            headers.append(("Content-Encoding", "gzip"))
            pieces = _compressed(pieces)
        start_response("200 OK", headers)
        return pieces

    return answer


def accepts_gzip(environ: WSGIEnvironment) -> bool:
    """Return True if the client of a request takes gzip."""
    coding = (one.strip().partition(";") for one in environ.get("HTTP_ACCEPT_ENCODING", "").lower().split(","))
    return any(name.strip() == "gzip" and rest.replace(" ", "") not in ("q=0", "q=0.0") for name, _, rest in coding)


def _compressed(pieces: Iterable[bytes]) -> list[bytes]:
    packer = zlib.compressobj(_FAST, wbits=_GZIP)
    return [*filter(None, map(packer.compress, pieces)), packer.flush()]


@cache
def _labelled(metric: Metric) -> Metric:
    return replace(metric, labels=(*metric.labels, STATE_LABEL))


@cache
def _description(metric: Metric) -> bytes:
    """Return the two lines above a metric's series."""
    sample = MetricValue(metric, ("",) * len(metric.labels), 0)
    return b"".join(generate_latest(registry(lambda: [sample])).splitlines(keepends=True)[:2])


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
