"""The ledger → the history of one state. It reads manifests one at a time, and only those that it does not know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from msgspec import UNSET
from msgspec.structs import replace

from floodmark.errors import ObjectMissing
from floodmark.report.facts import ABSENT, DROPPED, RunFacts, StateHistory, packed
from floodmark.report.nights import Tables, checked_time, committed_run, ended_run, read_days, tables_of, working_run
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Inflight, Manifest
from floodmark.state.run_list import KnownRun, uncommitted_runs


def read_history(ledger: Ledger, nights: int, before: StateHistory | None = None) -> StateHistory:
    """Return the newest `nights` committed runs, and the runs since then that committed nothing.

    `before` is an earlier result: its manifests are not read again. Raises NoState if no run has ever begun there, also
    StateUnreadable, StorageError.
    """
    if before is not None and before.nights != nights:
        before = None
    inflight = ledger.in_flight()
    head = ledger.head()
    if head is None:
        ledger.require_begun()
        return _with_runs(StateHistory(url=ledger.url, nights=nights), (), inflight)
    known = before.published if before is not None else ()
    if before is not None and known and known[0].key == head.manifest:
        return _with_runs(before, known, inflight)
    return _with_new_runs(ledger, nights, before, inflight)


def _with_new_runs(ledger: Ledger, nights: int, before: StateHistory | None, inflight: Inflight) -> StateHistory:
    current = ledger.current()
    if current is None:
        raise ledger.no_commit()
    reach = islice(_reachable(ledger.reach(current)), nights + 1)
    key, manifest = next(reach)
    checked_time(manifest.source.snapshot.taken_at)
    tables = tables_of(manifest, {}, newest=True)
    existing = [one for one in tables.values() if one.state not in (DROPPED, ABSENT)]
    moments = [one.as_of for one in existing if one.as_of is not None]
    fresh = StateHistory(
        url=ledger.url,
        database=manifest.source.database,
        dialect=manifest.source.dialect,
        server_version=manifest.source.server_version,
        destination=manifest.destination,
        nights=nights,
        as_of=max(moments, key=checked_time, default=manifest.source.snapshot.taken_at),
        oldest_as_of=min(moments, key=checked_time, default=None),
        committed=True,
        tables=packed(tuple(tables.values())),
        table_count=len(existing),
        read_days=read_days(manifest),
    )
    runs = _Walk(reach, inflight, before).runs(key, manifest, tables)
    return _with_runs(fresh, tuple(islice(runs, nights)), inflight)


def _reachable(manifests: Iterator[tuple[str, Manifest]]) -> Iterator[tuple[str, Manifest]]:
    """Yield manifests up to the first one that prune has deleted meanwhile."""
    with suppress(ObjectMissing):
        yield from manifests


class _Walk:
    """A walk back from the newest manifest, to runs that are known or to the end of the history."""

    def __init__(self, reach: Iterator[tuple[str, Manifest]], inflight: Inflight, before: StateHistory | None) -> None:
        self._reach, self._ends, self._before = reach, inflight.known_ends, before
        self._known = () if before is None else before.published
        self._names = self._known[0].names if self._known else b""

    def runs(self, key: str, manifest: Manifest, tables: Tables) -> Iterator[RunFacts]:
        """Yield the committed runs, newest first. Only two manifests' tables are kept at a time."""
        while True:
            newest = self._newest_known(manifest)
            if newest is not None:
                yield self._run(key, manifest, tables, newest)
                yield from self._known
                return
            following = next(self._reach, None)
            if following is None:
                yield self._run(key, manifest, tables, None)
                return
            older = tables_of(following[1], tables, newest=False)
            yield self._run(key, manifest, tables, older)
            (key, manifest), tables = following, older

    def _run(self, key: str, manifest: Manifest, tables: Tables, older: Tables | None) -> RunFacts:
        run = committed_run(key, manifest, tables, older, self._ends.get(manifest.run_id))
        if run.names == self._names:  # as a rule: then all runs share them
            return replace(run, names=self._names)
        self._names = run.names
        return run

    def _newest_known(self, manifest: Manifest) -> Tables | None:
        """Return the tables of the manifest before this one, if it is the newest one of the earlier reading."""
        if self._before is None or not self._known or manifest.parent != self._known[0].key:
            return None
        return {one.name: one for one in self._before.tables_now()}


def _with_runs(history: StateHistory, committed: tuple[RunFacts, ...], inflight: Inflight) -> StateHistory:
    """Return the history with the committed runs, and those that committed nothing since the oldest one began."""
    published = {run.run_id for run in committed}
    others = [_uncommitted(one) for one in uncommitted_runs(inflight) if one.run_id not in published]
    since = min((checked_time(run.started_at) for run in committed), default=None)
    others = [run for run in others if since is None or checked_time(run.started_at) >= since]
    record = None if inflight.ended is UNSET else inflight.ended
    database = history.database or ("" if record is None else record.last.database)
    return replace(
        history,
        database=database,
        runs=tuple(_merged(committed, others)),
        succeeded_at=None if record is None else record.succeeded_at,
        audited_chunks=0 if record is None else record.audited_chunks,
        audit_mismatches=0 if record is None else record.last.audit_mismatches,
    )


def _merged(committed: Sequence[RunFacts], others: Sequence[RunFacts]) -> Iterator[RunFacts]:
    """Yield all runs, newest first. Runs that committed keep the order of their commits, whatever the clocks said."""
    left = sorted(others, key=lambda run: checked_time(run.moment), reverse=True)
    for run in committed:
        while left and checked_time(left[0].moment) > checked_time(run.moment):
            yield left.pop(0)
        yield run
    yield from left


def _uncommitted(run: KnownRun) -> RunFacts:
    if run.ended is not None:
        return ended_run(run.ended)
    assert run.working is not None
    return working_run(run.working)
