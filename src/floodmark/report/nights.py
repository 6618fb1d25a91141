"""A manifest and the one before it → the facts of a run. Pure."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from msgspec import UNSET

from floodmark.errors import EXIT_OK, EXIT_PARTIAL
from floodmark.layout import timestamp_of
from floodmark.model import ContractFacts, Ended, ObjectEntry, TableEntry, TableName
from floodmark.report.facts import (
    ABSENT,
    CHANGED,
    DROPPED,
    FAILED,
    IDENTICAL,
    NEW,
    NOT_LOOKED_AT,
    UNCHANGED,
    Layer,
    ObjectNow,
    ReadDay,
    RunFacts,
    TableNight,
    TableNow,
    packed,
)
from floodmark.report.schema_changes import schema_changes
from floodmark.state.last_read import last_read
from floodmark.state.manifest import Manifest, Working, unreadable

Tables = Mapping[TableName, TableNow]

# The objects of one table that a report lists. Beyond that it counts them.
MOST_OBJECTS = 50
_DAY = "%Y%m%d"
_NAMES = {UNCHANGED: "unchanged", IDENTICAL: "unchanged", CHANGED: "extracted", NEW: "extracted", FAILED: "failed"}
_COUNTED = _NAMES | {DROPPED: "dropped", NOT_LOOKED_AT: "left"}


def tables_of(manifest: Manifest, known: Tables, *, newest: bool) -> dict[TableName, TableNow]:
    """Return the tables of a manifest. Columns that equal those of `known` are shared with it, to save memory."""
    return {entry.table: _table_now(entry, known.get(entry.table), newest=newest) for entry in manifest.tables}


def _table_now(entry: TableEntry, known: TableNow | None, *, newest: bool) -> TableNow:
    columns = known.columns if known is not None and known.columns == entry.columns else entry.columns
    fresh = [one for one in entry.objects if one.origin == "extracted"] if entry.status == "extracted" else []
    marks = () if entry.watermark is None else entry.watermark.chunks
    return TableNow(
        name=entry.table if known is None else known.name,
        state=_state(entry),
        code=entry.reason.code,
        detail=entry.reason.detail,
        rows=entry.rows,
        raw_bytes=entry.raw_bytes,
        stored_bytes=entry.stored_bytes,
        as_of=entry.as_of,
        changed_at=entry.changed_at,
        seconds=entry.duration_seconds,
        chunks=max(len(entry.objects), len(marks)),
        chunks_read=len(fresh),
        moved_bytes=sum(one.stored_bytes for one in fresh),
        oid=0 if entry.watermark is None else entry.watermark.table_oid,
        columns=columns,
        primary_key=() if entry.primary_key is UNSET else entry.primary_key,
        unique_keys=() if entry.unique_keys is UNSET else entry.unique_keys,
        comment="" if entry.comment is UNSET else entry.comment,
        encoding="" if entry.encoding is None else entry.encoding.digest,
        oldest_read=min((day for day, _ in _readings(entry)), default="") if newest else "",
        object_count=len(entry.objects),
        layers=_layers(entry.objects) if newest else (),
        objects=tuple(map(_object_now, entry.objects[:MOST_OBJECTS])) if newest else (),
    )


def _state(entry: TableEntry) -> str:
    """Return the table's byte, as far as its own entry tells it."""
    if entry.carried_over is True:
        return ABSENT if entry.status == "dropped" else NOT_LOOKED_AT
    if entry.status == "unchanged":
        return IDENTICAL if entry.reason.code == "identical" else UNCHANGED
    if entry.status == "extracted":
        return NEW if entry.reason.code == "first_run" else CHANGED
    return FAILED if entry.status == "failed" else DROPPED


def _object_now(one: ObjectEntry) -> ObjectNow:
    return ObjectNow(one.key, one.rows, one.raw_bytes, one.stored_bytes)


def _layers(objects: Iterable[ObjectEntry]) -> tuple[Layer, ...]:
    number: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for one in objects:
        timestamp = timestamp_of(one.key) or ""
        number[timestamp] += 1
        size[timestamp] += one.stored_bytes
    return tuple(Layer(timestamp, number[timestamp], size[timestamp]) for timestamp in sorted(number))


def _readings(entry: TableEntry) -> list[tuple[str, int]]:
    """Return for each provable chunk the day of its last reading, and the bytes of its object."""
    if entry.watermark is None or entry.status == "dropped":
        return []
    found = []
    for mark in entry.watermark.chunks:
        if mark.provable:
            part = None if mark.object is None else entry.objects[mark.object]
            day = last_read(mark, part)[:8]
            found.append((day if _is_day(day) else "", 0 if part is None else part.stored_bytes))
    return found


def _is_day(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, _DAY))
    except ValueError:
        return False


def read_days(manifest: Manifest) -> tuple[ReadDay, ...]:
    """Return when the provable chunks of all tables were last read, by day, oldest first."""
    number: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for entry in manifest.tables:
        for day, stored in _readings(entry):
            number[day] += 1
            size[day] += stored
    return tuple(ReadDay(day, number[day], size[day]) for day in sorted(number))


def committed_run(key: str, manifest: Manifest, now: Tables, before: Tables | None, ended: Ended | None) -> RunFacts:
    """Return the facts of a run that committed. `before` are the tables of the manifest before it, if it was read."""
    states = {name: _state_after(one, before) for name, one in now.items()}
    counts = Counter(_COUNTED[state] for state in states.values() if state in _COUNTED)
    held = [one for one in now.values() if one.state not in (DROPPED, ABSENT)]
    return RunFacts(
        run_id=manifest.run_id,
        outcome="partial" if counts["failed"] else "success",
        exit_code=EXIT_PARTIAL if counts["failed"] else EXIT_OK,
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        seconds=_seconds_between(manifest.started_at, manifest.finished_at),
        key=key,
        error="" if ended is None or ended.error is UNSET else ended.error,
        moved_bytes=_moved(manifest, now.values()),
        rows=sum(one.rows or 0 for one in held),
        raw_bytes=sum(one.raw_bytes or 0 for one in held),
        stored_bytes=sum(one.stored_bytes or 0 for one in held),
        counts=dict(counts),
        consistent=manifest.consistent,
        drift=len(manifest.contract.drift) if isinstance(manifest.contract, ContractFacts) else 0,
        names=packed(tuple(now)),
        states=zlib.compress("".join(states.values()).encode("ascii")),
        news=packed(_news(now, states, before)),
        changes=() if before is None else schema_changes(before, now),
    )


def _state_after(one: TableNow, before: Tables | None) -> str:
    """Return the table's byte. A table that was dropped earlier stays in manifests and is absent from then on."""
    if one.state == DROPPED and before is not None:
        old = before.get(one.name)
        return ABSENT if old is None or old.state in (DROPPED, ABSENT) else DROPPED
    return one.state


def _moved(manifest: Manifest, tables: Iterable[TableNow]) -> int:
    """Return the bytes that the run put. Release 0.1.0 did not record them."""
    if manifest.uploaded_bytes is not UNSET:
        return manifest.uploaded_bytes
    return sum(one.moved_bytes for one in tables if one.state in (CHANGED, NEW))


def _news(now: Tables, states: Mapping[TableName, str], before: Tables | None) -> Sequence[TableNight]:
    found = []
    for name, one in now.items():
        old = None if before is None else before.get(name)
        same = old is None or (old.rows, old.stored_bytes) == (one.rows, one.stored_bytes)
        if states[name] not in (UNCHANGED, NOT_LOOKED_AT, ABSENT) or not same:
            found.append(_table_night(one, old))
    return found


def _table_night(one: TableNow, old: TableNow | None) -> TableNight:
    return TableNight(
        name=one.name,
        rows=one.rows,
        rows_before=None if old is None else old.rows,
        stored_bytes=one.stored_bytes,
        stored_before=None if old is None else old.stored_bytes,
        chunks=one.chunks,
        chunks_before=None if old is None else old.chunks,
        chunks_read=one.chunks_read,
        moved_bytes=one.moved_bytes,
        seconds=round(one.seconds, 3),
        code=one.code,
        detail=one.detail,
    )


def ended_run(ended: Ended) -> RunFacts:
    """Return the facts of a run that committed nothing and left a record."""
    return RunFacts(
        run_id=ended.run_id,
        outcome=ended.outcome,
        exit_code=ended.exit_code,
        started_at=ended.started_at,
        finished_at=ended.ended_at,
        seconds=_seconds_between(ended.started_at, ended.ended_at),
        error="" if ended.error is UNSET else ended.error,
        chunks=None if ended.chunks is UNSET else ended.chunks,
        chunks_done=None if ended.chunks_done is UNSET else ended.chunks_done,
        moved_bytes=ended.uploaded_bytes,
    )


def working_run(run: Working) -> RunFacts:
    """Return the facts of a run that is at work or was killed."""
    return RunFacts(run_id=run.run_id, outcome="unfinished", started_at=run.started_at, finished_at=None, seconds=None)


def _seconds_between(start: str, end: str) -> float:
    between = checked_time(end) - checked_time(start)
    return round(max(0.0, between.total_seconds()), 3)


def checked_time(moment: str) -> datetime:
    """Return an ISO 8601 time of a document. Raises StateUnreadable if it is invalid or has no time zone."""
    with suppress(ValueError):
        found = datetime.fromisoformat(moment)
        if found.tzinfo is not None:
            return found
    raise unreadable("a document of the state", "it contains an invalid timestamp")
