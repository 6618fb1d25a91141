"""The Dask cluster of a command: its scheduler, its workers, and their versions."""

from __future__ import annotations

from collections.abc import Iterator

from floodmark.doctor.finding import Finding, of_error, ok, problem, warning
from floodmark.engine.address import read_address
from floodmark.engine.facts import ClusterFacts
from floodmark.engine.opening import survey_engine
from floodmark.errors import ConfigError, EngineError, FloodmarkError
from floodmark.version import __version__
from floodmark.wording import plural

_CHECK = "engine"


def check_engine(engine: str | None) -> Iterator[Finding]:
    """Yield what can be said of the cluster. Without one, there is nothing to say."""
    if engine is None:
        return
    address = read_address(engine)
    if not address.encrypted and not address.is_local:
        found = f"the connections to {address.text} are not encrypted"
        yield warning(_CHECK, found, "Start the scheduler with TLS, and write dask+tls://: see docs/scale.md.")
    try:
        facts = survey_engine(engine)
    except FloodmarkError as error:
        yield of_error(_CHECK, error)
        return
    yield _workers(address.text, facts)
    yield from _versions(facts)


def _workers(place: str, facts: ClusterFacts) -> Finding:
    if not facts.workers:
        found = f"the scheduler at {place} answers, but it has no worker"
        return problem(_CHECK, found, f"Start one: dask worker {place}", EngineError.exit_code)
    threads = sum(worker.threads for worker in facts.workers)
    lines = [f"{place} has {plural(len(facts.workers), 'worker')} with {plural(threads, 'thread')}"]
    lines += [f"{one.address}: {plural(one.threads, 'thread')}" for one in facts.workers]
    return ok(_CHECK, "\n".join(lines))


def _versions(facts: ClusterFacts) -> Iterator[Finding]:
    strangers = [worker for worker in facts.workers if not worker.fits]
    if strangers:
        named = [(one.address, f"Floodmark {one.version}" if one.version else "no Floodmark") for one in strangers]
        found = "\n".join(f"{address} has {what}" for address, what in named)
        yield problem(_CHECK, found, f"Install Floodmark {__version__} on all workers.", ConfigError.exit_code)
    if facts.other_dask:
        others = [f"{who} has Dask {version}" for who, version in facts.other_dask.items()]
        found = "\n".join([f"this process has Dask {facts.own_dask}", *others])
        yield warning(_CHECK, found, "Use one version everywhere: Dask promises nothing else.")
