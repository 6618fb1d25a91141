"""`floodmark doctor`: small checks of a run's prerequisites, each with a finding and a suggested fix.

The checks never write to the source and leave nothing at the destination. A check that can't be made reports that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from floodmark.config import Flags, load
from floodmark.config.load import DEFAULT_FILE
from floodmark.doctor.configuration import configuration
from floodmark.doctor.database import SourceFacts, source
from floodmark.doctor.finding import Finding, attempted, of_error, unknown
from floodmark.doctor.metrics import metrics
from floodmark.doctor.places import places
from floodmark.doctor.state import state
from floodmark.errors import FloodmarkError

__all__ = ["Finding", "examine"]


def examine(flags: Flags, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings as they come."""
    try:
        settings = load(flags, environ)
    except FloodmarkError as error:
        yield of_error("configuration", error)
        fix = None if (flags.config or DEFAULT_FILE).exists() else "`floodmark init` writes one."
        yield unknown("everything else", "needs a valid configuration", fix)
        return
    known = SourceFacts()
    yield from attempted("configuration", lambda: configuration(settings, flags, environ))
    yield from attempted("database", lambda: source(settings, known))
    yield from attempted("destination", lambda: places(settings))
    yield from attempted("head", lambda: state(settings, known.identity))
    yield from attempted("metrics", lambda: metrics(settings.metrics))
