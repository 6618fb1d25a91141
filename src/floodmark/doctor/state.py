"""Checks of the state: readable, this database's, age of the last commit, and runs that died."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from msgspec import UNSET

from floodmark.backends import open_ledger
from floodmark.config import Settings
from floodmark.doctor.finding import Finding, of_error, ok, run_check, unknown, warning
from floodmark.errors import ConfigError, FloodmarkError, SourceMismatch
from floodmark.events import ignore_event
from floodmark.layout import LAYOUTS
from floodmark.model import Ended, SourceIdentity
from floodmark.pipeline.losses import refused_tables
from floodmark.retrying import Patience
from floodmark.state.ledger import Current, Ledger, require_same_source
from floodmark.state.manifest import Inflight, Working
from floodmark.storage.s3_errors import AccessDenied
from floodmark.wording import duration_text, plural

_PATIENCE = Patience(tries=1)
# A nightly run, and two hours for a slow one.
_STALE = 26 * 3600
# The time that a run takes in addition to the time it holds its snapshot.
_SLACK = 3600


def check_state(settings: Settings, identity: SourceIdentity | None, tables: int | None = None) -> Iterator[Finding]:
    """Check the state. `identity` is the database's, `tables` its selected tables, or None if it can't be asked."""
    if settings.state_url is None:
        yield from _check_emptiness(settings, None, tables)
        fix = "Set FLOODMARK_STATE to a place in your own bucket, to extract only what changed."
        yield warning("head", "there is no state, so every run extracts every table", fix)
        return
    try:
        ledger = open_ledger(settings, ignore_event, _PATIENCE)
        assert ledger is not None
        current = ledger.current()
    except AccessDenied as error:
        fix = "Without s3:ListBucket S3 answers the same for a missing head: before a first run that is fine."
        yield unknown("head", error.sentence, fix)
        return
    except FloodmarkError as error:
        yield of_error("head", error)
        return
    yield from _check_emptiness(settings, current, tables)
    yield from _check_commit(current, identity)
    yield from run_check("runs", lambda: _check_runs(ledger, current, settings))


def _check_emptiness(settings: Settings, current: Current | None, tables: int | None) -> Iterator[Finding]:
    """Report a run that the guards would refuse because it selects no table."""
    known = None
    if current is not None and not settings.adopt_source:
        known = [entry.table for entry in current.manifest.tables if entry.status != "dropped"]
    refused = refused_tables(settings.guards, (), {}, known) if tables == 0 else None
    if refused is not None:
        yield of_error("guards", refused)


def _check_commit(current: Current | None, identity: SourceIdentity | None) -> Iterator[Finding]:
    if current is None:
        yield ok("head", "no run has been committed yet: the first one extracts everything")
        return
    yield ok("head", f"readable, and so is the manifest it names: run {current.head.run_id}")
    yield _check_owner(current, identity)
    age = (datetime.now(UTC) - datetime.fromisoformat(current.head.committed_at)).total_seconds()
    yield judged_age(age)
    failed = [entry.table.label for entry in current.manifest.tables if entry.status == "failed"]
    if failed:
        found = f"the last attempt at {plural(len(failed), 'table')} failed: {', '.join(failed[:10])}"
        yield warning("last run", found, "`floodmark show` says why.")


def _check_owner(current: Current, identity: SourceIdentity | None) -> Finding:
    if identity is None:
        return unknown(
            "state's database", f"it belongs to {current.head.database}; the source can't be asked for its identity"
        )
    try:
        require_same_source(current, identity, adopt=False)
    except SourceMismatch as error:
        return of_error("state's database", error)
    return ok("state's database", f"it belongs to this database, {current.head.database}")


def judged_age(age: float) -> Finding:
    """Judge the `age` of the last commit, in seconds. Pure."""
    if age < _STALE:
        return ok("last commit", f"{duration_text(max(0, int(age)))} ago")
    fix = "Check the job's schedule and the end of its last run: kubectl get cronjob,job; see ops/runbook.md."
    return warning("last commit", f"{duration_text(int(age))} ago: no run has committed in the last night", fix)


def _check_runs(ledger: Ledger, current: Current | None, settings: Settings) -> Iterator[Finding]:
    found: Inflight = ledger.in_flight()
    longest = settings.limits.max_snapshot_age + _SLACK
    ends = found.known_ends
    yield judged_runs([run for run in found.runs if run.run_id not in ends], datetime.now(UTC), longest)
    left = [ends[run.run_id] for run in found.runs if run.run_id in ends]
    committed = None if current is None else current.head.committed_at
    left = [one for one in left if committed is None or _is_later(one.ended_at, committed)]
    if left:
        yield judged_left(left)
    if found.ended and found.ended.last.outcome not in ("success", "partial"):
        yield judged_last(found.ended.last, LAYOUTS[settings.destination.layout].objects_stay)


def judged_last(last: Ended, objects_stay: bool) -> Finding:
    """Return the warning about a run that did not commit. Pure."""
    refused, stopped = last.exit_code == ConfigError.exit_code, last.outcome == "stopped"
    fix = "Fix the setting that its log names." if refused else "See its log for the cause."
    fix = "A signal ended it. Start the next run." if stopped else fix
    if last.uploaded_bytes and objects_stay:
        fix += " Its finished parts are kept: the next run continues from them."
    verb = "was stopped" if stopped else last.outcome
    found = f"{last.run_id} {verb} with exit code {last.exit_code} at {last.ended_at}"
    found += "" if last.error is UNSET else f": {last.error}"
    return warning("last run", found, fix)


def _is_later(moment: str, than: str) -> bool:
    return datetime.fromisoformat(moment) > datetime.fromisoformat(than)


def judged_left(left: Sequence[Ended]) -> Finding:
    """Return the finding about runs that ended and left finished parts, which the next run continues from. Pure."""
    told = "; ".join(f"{one.run_id} ({one.outcome} at {one.ended_at}{_how_far(one)})" for one in left)
    return ok("finished parts", f"left by {told}; the next run continues from them")


def _how_far(ended: Ended) -> str:
    if ended.chunks is UNSET or ended.chunks_done is UNSET or not ended.chunks:
        return ""
    return f", {ended.chunks_done:,} of {plural(ended.chunks, 'chunk')} done"


def judged_runs(runs: Sequence[Working], now: datetime, longest: int) -> Finding:
    """Judge the listed runs. No run may hold a snapshot for longer than its limit, so an older one has died. Pure."""
    ages = {run.run_id: (now - datetime.fromisoformat(run.started_at)).total_seconds() for run in runs}
    dead = [run for run, age in ages.items() if age > longest]
    if dead:
        found = f"{', '.join(dead)} began more than {duration_text(longest)} ago and did not end: probably dead"
        return warning("runs", found, "Start the next run: it continues from the finished parts.")
    if ages:
        return ok("runs", f"at work, or killed since they began: {', '.join(ages)}")
    return ok("runs", "none is in progress")
