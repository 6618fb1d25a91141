"""A run as a list of steps, from the settings to the committed manifest, and `plan`, which stops at the decision."""

from __future__ import annotations

from itertools import count

from msgspec import UNSET, Struct

from floodmark.backends import open_source
from floodmark.config import Settings
from floodmark.config.workers import require_shareable
from floodmark.engine.opening import EngineChoice, open_engine
from floodmark.errors import LossRefused, SourceError, Stopped
from floodmark.events import Observer, Retried, ignore_event
from floodmark.layout import timestamp_text
from floodmark.model import ContractDrift, Reason, TableName
from floodmark.observed import TableInfo
from floodmark.pipeline.attempt import AttemptResult
from floodmark.pipeline.audit import audit_tables
from floodmark.pipeline.complete import complete_earlier, complete_run
from floodmark.pipeline.dispatch import extract_chunks
from floodmark.pipeline.guards import planned_rows_refusal, tables_refusal
from floodmark.pipeline.observe import observe_tables
from floodmark.pipeline.publish import RunResult, publish
from floodmark.pipeline.session import Session
from floodmark.pipeline.snapshot import announce_run, choose_tables, tables_gone, take_snapshot
from floodmark.pipeline.work import TableWork
from floodmark.source.base import Source, SourceSnapshot
from floodmark.source.selection import LeftOut
from floodmark.stop import Stop, stopped_leaving

# A table that was rewritten under each of this many snapshots is given up until the next run. The run itself is given
# up if this many snapshots in a row were lost before a single chunk was finished.
MAX_ATTEMPTS = 3


class PlannedTable(Struct, frozen=True):
    """The plan of a run for one table.

    Attributes:
        table: The table's name.
        reason: The reason to extract it, or code `unchanged` or `journal`.
        chunks: The number of its chunks.
        to_extract: The number of chunks that a run would extract.
        estimated_bytes: The estimated size of these chunks in the source, in bytes.
    """

    table: TableName
    reason: Reason
    chunks: int
    to_extract: int
    estimated_bytes: int


class RunPlan(Struct, frozen=True):
    """The plan of a run.

    Attributes:
        tables: One plan per table, ordered by name. Tables that the source no longer has are included.
        left_out: Views, foreign tables and the like, which are landed only if tables.include names them in full.
        refused: The error with which the guards would end the run, or None.
        drift: The differences from the contract, if one is in force.
    """

    tables: list[PlannedTable]
    left_out: tuple[LeftOut, ...] = ()
    refused: LossRefused | None = None
    drift: tuple[ContractDrift, ...] = ()


def run(
    settings: Settings, observer: Observer = ignore_event, stop: Stop | None = None, engine: EngineChoice = None
) -> RunResult:
    """Extract what changed, and commit a manifest.

    Args:
        settings: The settings, as `load_settings` returns them.
        observer: A function that is called with each event (`floodmark.events`), from several threads.
        stop: An event that ends the run at the next safe point when it is set.
        engine: The Dask cluster whose workers extract chunks: a URL such as `dask://host:8786`, or your own
            `distributed.Client`, to whose scheduler the run opens a connection of its own. None means the settings'.

    Returns:
        The committed manifest and some totals. A table's own failure is an entry in it, and no exception.

    Raises:
        RunStopped: `stop` ended the run, and nothing was committed. The error says what is kept for the next run.
        FloodmarkError: The run failed as a whole, and nothing was committed. The class tells the exit code.
    """
    chosen = engine or settings.engine
    if chosen is not None:
        require_shareable(settings)
    session = Session(settings, observer, stop or Stop())
    try:
        with open_engine(chosen, session.observe, session.stop) as session.cluster:
            completed = _attempt_until_complete(session, open_source(settings))
        result = publish(session, completed)
    except Stopped as stopped:
        session.fail(stopped)
        raise session.stopped_error(stopped.signal_number) from None
    except BaseException as error:
        session.fail(error)
        raise
    result = complete_run(session, result)
    session.succeed(result.failed)
    return result


def plan(settings: Settings, observer: Observer = ignore_event, stop: Stop | None = None) -> RunPlan:
    """Return what a run would do with each table, and why. It reads only, and changes nothing.

    Args:
        settings: The settings, as `load_settings` returns them.
        observer: A function that is called with each event (`floodmark.events`), from several threads.
        stop: An event that ends the work at the next safe point when it is set.

    Returns:
        The plan. A run that the guards would refuse is no exception here.

    Raises:
        FloodmarkError: The source or the state can't be read.
    """
    with stopped_leaving(lambda: "A plan only reads: nothing was changed."):
        return _plan_steps(Session(settings, observer, stop or Stop(), only_reads=True))


def _plan_steps(session: Session) -> RunPlan:
    """Do the steps of a run up to the decision."""
    snapshot = take_snapshot(session, open_source(session.settings))
    try:
        tables = choose_tables(session, snapshot)
        attempt = session.make_attempt(snapshot, tables, timestamp_text(session.started))
        works = observe_tables(attempt)
        session.stop.require_not_asked()
        gone = tables_gone(session, snapshot, tables)
    finally:
        snapshot.close()
    planned = [_denied_plan(table) for table in tables if table.denied is not None]
    planned += [_plan_of(work, attempt.planned_reason(work)) for work in works]
    planned += [PlannedTable(name, one.reason, 0, 0, 0) for name, one in gone.items()]
    refused = tables_refusal(session, tables, gone) or planned_rows_refusal(session, tables, works, gone)
    drift = () if session.contract is UNSET else session.contract.drift
    return RunPlan(sorted(planned, key=lambda one: one.table), snapshot.choice.left_out, refused, drift)


def _attempt_until_complete(session: Session, source: Source) -> AttemptResult:
    """Retry with a new snapshot until one attempt completes."""
    fruitless = 0
    for number in count(1):
        finished_before = session.progress.finished_count
        result = _attempt_once(session, source, number)
        session.stop.require_not_asked()
        if isinstance(result, AttemptResult) and not result.lost:
            break
        # A lost snapshot does not count as fruitless if something new was finished under it.
        new = isinstance(result, SourceError) and session.progress.finished_count > finished_before
        fruitless = 0 if new else fruitless + 1
        if fruitless == MAX_ATTEMPTS or session.deadline.reached():
            break
        session.observe(Retried("work under one snapshot", _why_again(result), number))
    if isinstance(result, SourceError):
        raise result
    return result


def _attempt_once(session: Session, source: Source, number: int) -> AttemptResult | SourceError:
    """Do all the work that one snapshot allows.

    If the snapshot is lost meanwhile, return that error, do not raise it.
    """
    snapshot = take_snapshot(session, source, again=number > 1)
    try:
        return _run_steps(session, source, snapshot, number)
    except SourceError as error:
        if snapshot.is_alive():
            raise
        return error
    finally:
        snapshot.close()


def _run_steps(session: Session, source: Source, snapshot: SourceSnapshot, number: int) -> AttemptResult:
    tables = choose_tables(session, snapshot)
    if number == 1:
        complete_earlier(session)
    session.stop.require_not_asked()
    gone = tables_gone(session, snapshot, tables)
    refusal = tables_refusal(session, tables, gone)
    if refusal is not None:  # before the run claims anything: an empty database must not begin a state
        raise refusal
    timestamp = session.claim_timestamp()
    announce_run(session, source, snapshot, number)
    attempt = session.make_attempt(snapshot, tables, timestamp)
    works = observe_tables(attempt)
    attempt.take_proven(works)
    session.stop.require_not_asked()
    session.announce_objects(attempt, works)
    extract_chunks(attempt, works)
    session.note_sent(attempt, works)
    session.stop.require_not_asked()
    carried = audit_tables(attempt, works)
    session.stop.require_not_asked()
    return attempt.make_result(works, gone, carried)


def _why_again(result: AttemptResult | SourceError) -> str:
    if isinstance(result, SourceError):
        return result.sentence
    return "; ".join(error.sentence for error in result.lost.values())


def _plan_of(work: TableWork, reason: Reason) -> PlannedTable:
    extract = work.plan.to_extract
    size = sum(chunk.estimated_bytes for chunk in extract)
    return PlannedTable(work.table, reason, len(work.plan.chunks), len(extract), size)


def _denied_plan(table: TableInfo) -> PlannedTable:
    return PlannedTable(table.table, Reason(table.denied_by, table.denied or ""), 0, 0, 0)
