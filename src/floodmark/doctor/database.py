"""Checks of the source: those of a server, and those of the tables as a run's snapshot shows them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial

from msgspec import Struct

from floodmark.backends import open_source
from floodmark.config import Settings
from floodmark.doctor import activity, json_numbers, landing, server, tables, wal_summaries
from floodmark.doctor.finding import Finding, of_error, ok, problem, run_check, unknown, warning
from floodmark.doctor.space import ReadingSizes, reading_sizes
from floodmark.errors import ConfigError, FloodmarkError, SourceError
from floodmark.model import SourceIdentity
from floodmark.pipeline.terms import contract_drift
from floodmark.source.base import SourceSnapshot
from floodmark.wording import plural

_DIGEST = ""  # of the encoding: no lines are made
_PROOF = (
    "Excluding or masking the named column can make the table provable (tables.rules.*.columns); "
    "see docs/change-detection.md."
)
_PROOF_ELSEWHERE = "docs/sources.md says what each database can prove."


class SourceFacts(Struct):
    """Facts from the source's checks for other checks, None if the database can't be asked.

    They are the database's identity, the number of selected tables, and the sizes of what a run reads.
    """

    identity: SourceIdentity | None = None
    tables: int | None = None
    sizes: ReadingSizes | None = None


def check_source(settings: Settings, known: SourceFacts) -> Iterator[Finding]:
    check = _check_postgresql if _is_postgresql(settings) else _check_other_server
    reached = yield from check(settings)
    if reached:
        yield from _check_tables(settings, known)
    else:
        yield unknown("tables", "can't be listed: the database does not answer")


def _is_postgresql(settings: Settings) -> bool:
    return settings.source.url is None or settings.source.url.reveal().strip().startswith("postgres")


def _check_postgresql(settings: Settings) -> Generator[Finding, None, bool]:
    """Yield the findings, and return true if the server answers."""
    try:
        asked = server.ServerConnection(settings)
    except FloodmarkError as error:
        yield of_error("database", error)
        return False
    try:
        for check, action in (
            *server.CHECKS,
            *activity.CHECKS,
            (wal_summaries.CHECK, wal_summaries.check_wal_summaries),
        ):
            yield from run_check(check, partial(action, asked))
    finally:
        asked.close()
    return True


def _check_other_server(settings: Settings) -> Generator[Finding, None, bool]:
    """Yield what the source says of its server, and return true if the server answers."""
    try:
        found = open_source(settings).diagnose()
    except FloodmarkError as error:
        yield of_error("database", error)
        return False
    for one in found:
        if one.hint is None:
            yield ok(one.topic, one.found)
        elif one.fatal:
            yield problem(one.topic, one.found, one.hint, SourceError.exit_code)
        else:
            yield warning(one.topic, one.found, one.hint)
    return not any(one.fatal for one in found)


def _check_tables(settings: Settings, known: SourceFacts) -> Iterator[Finding]:
    try:
        snapshot = open_source(settings).snapshot()
    except FloodmarkError as error:
        yield of_error("snapshot", error)
        return
    try:
        known.identity = snapshot.identity
        yield from _check_sharing(snapshot)
        yield from _check_encoder(snapshot)
        yield from _judge_tables(snapshot, settings, known)
    except (ConfigError, SourceError) as error:
        yield of_error("tables", error)
    finally:
        snapshot.close()


def _check_sharing(snapshot: SourceSnapshot) -> Iterator[Finding]:
    """Check if other connections can share a snapshot.

    Each run finds this out, so the check asks the run's own code.
    """
    if all(one.topic != "snapshot" for one in snapshot.drawbacks):
        connections = plural(snapshot.parallelism, "connection")
        yield ok("snapshot", f"taken at {snapshot.point.taken_at}, and shared by up to {connections}")
    for one in snapshot.drawbacks:
        yield warning(one.topic, one.found, one.hint)


def _check_encoder(snapshot: SourceSnapshot) -> Iterator[Finding]:
    """Say who makes the lines. The run's own code decides."""
    maker = snapshot.line_maker
    if maker is not None and maker.name == "native":
        yield ok("encoder", "native: Floodmark makes the lines from the server's binary rows")
    elif maker is not None:
        yield ok("encoder", f"server: the server makes the lines, because {maker.why}")


def _judge_tables(snapshot: SourceSnapshot, settings: Settings, known: SourceFacts) -> Iterator[Finding]:
    told = list(snapshot.drawbacks)
    found = snapshot.tables(settings.selection, _DIGEST)
    for one in snapshot.drawbacks:  # some concern the tables that were chosen
        if one not in told:
            yield warning(one.topic, one.found, one.hint)
    for pattern in snapshot.choice.idle:
        yield warning("tables", pattern.sentence, pattern.hint or "Remove the pattern.")
    terms = settings.selection.contract
    if terms is not None:
        yield tables.check_contract(contract_drift(terms, snapshot, found), terms)
    known.tables = len(found)
    known.sizes = reading_sizes(found, settings.chunk_bytes, snapshot.parallelism, grows=settings.chunks_grow)
    yield from tables.check_readable(found, settings.state_url is None)
    yield from tables.check_proof(found, _PROOF if _is_postgresql(settings) else _PROOF_ELSEWHERE)
    yield from tables.check_journal(found)
    yield from tables.check_size(found, settings, snapshot.point)
    yield from landing.check_landing(found, snapshot.identity.database, settings, snapshot.default_schema)
    if _is_postgresql(settings) and landing.refuses_json_numbers(settings):
        yield from run_check(json_numbers.CHECK, lambda: json_numbers.check_json_numbers(settings, found))
