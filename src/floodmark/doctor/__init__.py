"""`floodmark doctor`: small checks of a run's prerequisites, each with a finding and a suggested fix.

The checks never write to the source and leave nothing at the destination. A check that can't be made reports that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from floodmark.config import Flags, load
from floodmark.config.load import DEFAULT_FILE
from floodmark.doctor.configuration import check_configuration
from floodmark.doctor.database import SourceFacts, check_source
from floodmark.doctor.engine import check_engine
from floodmark.doctor.finding import Finding, of_error, run_check, unknown
from floodmark.doctor.metrics import check_metrics
from floodmark.doctor.notifications import check_notify
from floodmark.doctor.openlineage import check_openlineage
from floodmark.doctor.places import check_places
from floodmark.doctor.space import check_space
from floodmark.doctor.state import check_state
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
    yield from run_check("configuration", lambda: check_configuration(settings, flags, environ))
    yield from run_check("database", lambda: check_source(settings, known))
    yield from run_check("destination", lambda: check_places(settings))
    yield from run_check("temporary files", lambda: check_space(settings, known.sizes))
    yield from run_check("head", lambda: check_state(settings, known.identity, known.tables))
    yield from run_check("engine", lambda: check_engine(settings.engine))
    yield from run_check("metrics", lambda: check_metrics(settings.metrics))
    yield from run_check("notify", lambda: check_notify(settings.notify))
    yield from run_check("openlineage", lambda: check_openlineage(settings.openlineage))
