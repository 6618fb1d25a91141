"""The snapshot of an attempt: wait for the server, check that it is the state's own, and choose the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from floodmark.errors import ConfigError, SourceError, SourceUnavailable
from floodmark.events import RunStarted, StepStarted
from floodmark.model import TableName
from floodmark.observed import TableInfo
from floodmark.pipeline.losses import Gone
from floodmark.pipeline.remembered import Remembered
from floodmark.pipeline.session import Session
from floodmark.pipeline.terms import keep_to_contract
from floodmark.retrying import Patience, retrying
from floodmark.source.base import NamedRelation, Source, SourceSnapshot
from floodmark.source.selection import picked_if_plain
from floodmark.source.waiting import WaitsOnce
from floodmark.wording import plural

# A server that goes down under a run gets this long to come back, even if `source.wait_seconds` is less.
SECONDS_TO_COME_BACK = 300
_SECONDS_BETWEEN_TRIES = 5
_GONE = "the table no longer exists in the source"


def take_snapshot(session: Session, source: Source, *, again: bool = False) -> SourceSnapshot:
    """Take a snapshot, and wait for a server that is down. Raises Stopped, SourceError."""
    session.stop.require_not_asked()
    session.observe(StepStarted("waiting for the server"))
    settings, seconds = session.settings, _SECONDS_BETWEEN_TRIES
    longest = max(settings.source.wait_seconds, SECONDS_TO_COME_BACK if again else 0)
    patience = Patience(tries=None, shortest=seconds, longest=seconds, jitter=0, deadline=longest)
    tries = retrying(
        "take a snapshot",
        lambda error: isinstance(error, SourceUnavailable),
        session.observe,
        patience,
        sleep=session.stop.wait,
        stopping=session.deadline.reached,
    )
    try:
        snapshot = WaitsOnce(tries(source.snapshot), session.locked_tables, settings.limits.lock_timeout)
    except SourceUnavailable:
        session.stop.require_not_asked()
        raise
    session.deadline.start(settings.limits.max_snapshot_age)
    return snapshot


def choose_tables(session: Session, snapshot: SourceSnapshot) -> list[TableInfo]:
    """Return the tables of this run, after the checks that they may be read into this state.

    Raises SourceMismatch, ConfigError, SourceError.
    """
    session.observe(StepStarted("reading the catalog"))
    for drawback in snapshot.drawbacks:
        session.warn_once(str(drawback))
    session.identify_source(snapshot)
    tables = snapshot.tables(session.settings.selection, session.backends.encoding.digest)
    tables = keep_to_contract(session, snapshot, tables)
    for drawback in snapshot.drawbacks:  # some concern the tables that were chosen
        session.warn_once(str(drawback))
    for pattern in snapshot.choice.idle:
        session.warn_once(f"{pattern.sentence}. {pattern.hint}")
    for warning in _journal_warnings(tables):
        session.warn_once(warning)
    _require_approved(session, tables)
    if session.backends.ledger is None:
        _require_all_readable(session, tables)
    return tables


def _journal_warnings(tables: Sequence[TableInfo]) -> Iterator[str]:
    """Yield why journals can't be used although `detect: journal` is set, with an example for each reason."""
    why: dict[str, list[str]] = {}
    for table in tables:
        if table.journal_doubt is not None and table.denied is None:
            why.setdefault(table.journal_doubt.replace(table.table.label, ""), []).append(table.journal_doubt)
    for doubts in why.values():
        others = len(doubts) - 1
        more = f" ({plural(others, 'other table')} too)" if others else ""
        yield f"rows are counted instead of asking the journal: {doubts[0]}{more}"


def _require_approved(session: Session, tables: Sequence[TableInfo]) -> None:
    if session.settings.selection.new != "fail" or session.current is None or session.other_source:
        return
    known = {entry.table for entry in session.current.manifest.tables}
    new = sorted(table.table.label for table in tables if table.table not in known)
    if new:
        raise ConfigError(
            "can't extract tables that are new",
            on=", ".join(new),
            why="tables.new is fail",
            hint="To accept them, run once with `tables.new: include`. To leave them out, add them to tables.exclude.",
        )


def _require_all_readable(session: Session, tables: Sequence[TableInfo]) -> None:
    """Refuse to send anything if a table can't be read. Without a manifest, nobody would learn that it is missing."""
    session.warn_once(
        "this run keeps no state, so it extracts every table; set FLOODMARK_STATE to extract only what changed"
    )
    denied = [table for table in tables if table.denied is not None]
    if denied:
        refused = any(table.denied_by == "contract" for table in denied)
        hint = "`floodmark contract check` lists the differences." if refused else "Grant SELECT on them to the role."
        raise SourceError(
            "can't read some tables, so nothing was sent",
            on=", ".join(f"{table.table.label} ({table.denied})" for table in denied),
            hint=f"{hint} To leave them out: tables.exclude.",
        )


def announce_run(session: Session, source: Source, snapshot: SourceSnapshot, number: int) -> None:
    """Tell the observer that an attempt begins."""
    url = session.settings.destination.url
    encoder = None if snapshot.line_maker is None else snapshot.line_maker.name
    session.observe(RunStarted(session.run_id, source.label, url, snapshot.point, number, session.database, encoder))


def tables_gone(session: Session, snapshot: SourceSnapshot, tables: Iterable[TableInfo]) -> dict[TableName, Gone]:
    """Return the tables that the state knows and the source no longer has, each with the reason.

    A table that was only not selected does not count as gone.
    """
    selected = {table.table for table in tables}
    committed = session.committed_tables()
    away = {name: known for name, known in committed.items() if name not in selected and not session.left_out(name)}
    existing = snapshot.existing_relations(list(away))
    found = {name: _why_gone(session, snapshot, known, existing.get(name)) for name, known in away.items()}
    return {name: why for name, why in found.items() if why is not None}


def _why_gone(session: Session, snapshot: SourceSnapshot, known: Remembered, now: NamedRelation | None) -> Gone | None:
    """Return the reason why a table that was not selected is gone, or None if it is not gone.

    The relation that now has its name can be one that is no table in its own right.
    """
    if now is None or known.entry is None:
        return Gone(_GONE)
    name = known.entry.table
    became = {
        "table": False,
        "owned": picked_if_plain(name, session.settings.selection, snapshot.default_schema),
        "part": True,
        "other": known.entry.watermark is not None,  # else it might always have been a view
    }
    if not became[now.kind]:
        return None
    if now.kind == "part":
        return Gone(f"{name.label} is {now.what} now, and its rows come with that table", attached=True)
    return Gone(f"{_GONE}: {name.label} is {now.what} now")
