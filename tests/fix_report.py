"""Invented states for the report: weeks of nights with growth, failures, schema changes, and tables of odd names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.layout import timestamp_text
from floodmark.model import (
    Chunk,
    ChunkMark,
    Column,
    Encoding,
    Ended,
    ObjectEntry,
    Point,
    Reason,
    TableEntry,
    TableName,
    Watermark,
)
from floodmark.report import StateHistory, UnreadState, read_history
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Manifest, ManifestSource, checksum
from floodmark.storage.base import Storage
from floodmark.storage.memory import MemoryStorage
from floodmark.wording import iso_time

NOW = datetime(2026, 11, 30, 6, 30, tzinfo=UTC)
INERT = "<script>alert(1)</script>"
ODD_NAMES = (
    INERT,
    'quote"s and \u2028 </script><!--',
    "datum.value); alert(2)",
    "a/b?c#d%e",
    "Zürich 東京",
    "__proto__",
)

_COMMON = (
    Column("id", "bigint", False, comment="Never reused"),
    Column("person_id", "uuid", False),
    Column("code", "text", True),
    Column("amount", "public.money", True, base="numeric(12,2)", comment="In pounds"),
    Column("updated_at", "timestamp with time zone", False),
)


class Part(Struct, frozen=True):
    """A chunk: the night that wrote it, and its rows."""

    night: int
    rows: int
    audited: int = -1


class Invented(Struct, frozen=True, kw_only=True):
    """A table in the invented database. `growth` is its new rows a night, `busy` the chance of a change.

    The runs of the nights in `left` leave it out.
    """

    name: TableName
    rows: int
    growth: int = 0
    busy: float = 0.0
    columns: tuple[Column, ...] = _COMMON
    born: int = 0
    dies: int = 10**6
    fails: tuple[int, ...] = ()
    retyped: int = 10**6
    left: tuple[int, ...] = ()
    oid: int = 0


class Teller:
    """Writes the nights of an invented database into a ledger."""

    def __init__(self, storage: Storage, database: str, nights: int, tables: Sequence[Invented], seed: int = 7) -> None:
        self.database, self.nights, self.tables, self.chance = database, nights, tables, Random(seed)
        self.moment = NOW
        self.ledger = Ledger(storage, sleep=lambda _: None, now=lambda: self.moment)
        self.parts: dict[TableName, list[Part]] = {}
        self.entries: dict[TableName, TableEntry] = {}

    def start_of(self, night: int) -> datetime:
        """Return when a night's run began: at about two in the morning, the last one today."""
        day = NOW - timedelta(days=self.nights - 1 - night)
        return day.replace(hour=2, minute=3, second=night % 60)

    def tell(self, lost: Callable[[int], str] = lambda night: "") -> None:
        """Write all nights. `lost` gives the outcome of nights that committed nothing, or `none` for no run at all."""
        for night in range(self.nights):
            outcome = lost(night)
            if outcome in ("failed", "stopped"):
                self._ended(night, outcome)
            elif not outcome:
                self._committed(night)

    def _ended(self, night: int, outcome: str) -> None:
        started = self.start_of(night)
        self.ledger.note(
            Ended(
                run_id=f"{started:%Y%m%dT%H%M%SZ}-{night:06x}",
                database=self.database,
                started_at=iso_time(started),
                ended_at=iso_time(started + timedelta(seconds=41)),
                outcome=outcome,
                exit_code={"failed": 12, "stopped": 143}[outcome],
                chunks=40,
                chunks_done=13,
                error="can't reach the database: postgresql://app:hunter2@db.internal/cases?sslpassword=hunter2"
                if outcome == "failed"
                else UNSET,
            )
        )

    def _committed(self, night: int) -> None:
        started = self.moment = self.start_of(night)
        entries = tuple(self._entry(one, night) for one in self.tables if one.born <= night)
        seconds = 20 + sum(one.duration_seconds for one in entries) / 3
        base = self.ledger.current()
        at = iso_time(started, "microseconds")
        moved = sum(part.stored_bytes for one in entries for part in one.objects if part.origin == "extracted")
        whole = Manifest(
            run_id=f"{started:%Y%m%dT%H%M%SZ}-{night:06x}",
            parent=None if base is None else base.head.manifest,
            tool_version="0.2.0",
            started_at=iso_time(started),
            finished_at=iso_time(started + timedelta(seconds=seconds)),
            timestamp=timestamp_text(started),
            destination="s3://lake/" + self.database,
            layout="plain",
            consistent=True,
            source=ManifestSource(
                dialect="postgresql",
                database=self.database,
                system_identifier="7100000000000000001",
                server_version="18.0",
                snapshot=Point(at, 1000 + night, 1000 + night),
            ),
            tables=entries,
            uploaded_bytes=moved,
        )
        self.ledger.commit(whole, base)

    def _entry(self, one: Invented, night: int) -> TableEntry:
        known = self.entries.get(one.name)
        if night in one.left and known is not None:
            return replace(known, carried_over=True)
        if night >= one.dies and known is not None:
            entry = replace(known, status="dropped", reason=Reason("dropped", "not in the database"), watermark=None)
        elif night in one.fails:
            entry = self._failed(one, known)
        elif known is None:
            parts = [Part(night, rows) for rows in _split(one.rows)]
            entry = self._read(one, night, parts, Reason("first_run", "never extracted before"), None)
        elif self.chance.random() < one.busy or night == one.retyped:
            entry = self._changed(one, night, known)
        else:
            entry = self._unchanged(one, night, known)
        self.entries[one.name] = entry
        return entry

    def _failed(self, one: Invented, known: TableEntry | None) -> TableEntry:
        reason = Reason("denied", "permission denied for table")
        if known is None:
            return TableEntry(schema=one.name.schema, name=one.name.name, status="failed", reason=reason)
        return replace(known, status="failed", reason=reason, duration_seconds=0.01)

    def _changed(self, one: Invented, night: int, known: TableEntry) -> TableEntry:
        parts = self.parts[one.name]
        if self.chance.random() < 0.3:
            at = self.chance.randrange(len(parts))
            parts[at] = Part(night, parts[at].rows)
        added = int(one.growth * self.chance.uniform(0.4, 1.7))
        parts[-1] = Part(night, parts[-1].rows + added)
        if parts[-1].rows > 120_000:
            parts[-1] = Part(night, parts[-1].rows - 20_000)
            parts.append(Part(night, 20_000))
        reason = Reason("rows_changed", f"{max(added, 3):,} rows inserted or updated")
        if night == one.retyped:
            reason = Reason("schema_changed", "columns added: note")
        return self._read(one, night, parts, reason, known)

    def _unchanged(self, one: Invented, night: int, known: TableEntry) -> TableEntry:
        parts = self.parts[one.name]
        at = self.chance.randrange(len(parts))
        parts[at] = replace(parts[at], audited=night)
        kept = self._read(one, night, parts, Reason("unchanged", "proven unchanged"), known)
        return replace(kept, status="unchanged", changed_at=known.changed_at, duration_seconds=0.02)

    def _read(
        self, one: Invented, night: int, parts: list[Part], reason: Reason, known: TableEntry | None
    ) -> TableEntry:
        self.parts[one.name] = parts
        moment = self.start_of(night)
        at = iso_time(moment, "microseconds")
        objects = tuple(self._object(one, number, part, night) for number, part in enumerate(parts))
        fresh = sum(part.stored_bytes for part in objects if part.origin == "extracted")
        return TableEntry(
            schema=one.name.schema,
            name=one.name.name,
            status="extracted",
            reason=reason,
            as_of=at,
            changed_at=at,
            changed_by=f"run {night}",
            columns=_columns(one, night),
            encoding=Encoding(),
            watermark=Watermark(
                Point(at), one.oid or _number(one.name), tuple(map(self._mark, range(len(parts)), parts))
            ),
            checksum=checksum(objects),
            rows=sum(part.rows for part in parts),
            raw_bytes=sum(part.raw_bytes for part in objects),
            stored_bytes=sum(part.stored_bytes for part in objects),
            duration_seconds=round(0.05 + fresh / 9e6, 3),
            objects=objects,
            primary_key=("id",),
            unique_keys=(("person_id", "code"),),
            comment="One row per event.\nOwned by the case team." if one.growth else UNSET,
        )

    def _mark(self, number: int, part: Part) -> ChunkMark:
        read = timestamp_text(self.start_of(part.audited)) if part.audited >= 0 else UNSET
        return ChunkMark(Chunk("16385", number * 10, number * 10 + 10), 1, part.rows, 0, number, audited=read)

    def _object(self, one: Invented, number: int, part: Part, night: int) -> ObjectEntry:
        stamp = timestamp_text(self.start_of(part.night))
        folder = f"data/database_name={self.database}/table_name={one.name.name}/extraction_timestamp={stamp}"
        digest = hashlib.sha256(f"{one.name}{number}{part.night}".encode()).hexdigest()
        origin: Any = "extracted" if part.night == night else "reused"
        key = f"{folder}/{one.name.name}-{number:05d}.jsonl.gz"
        chunk = Chunk("16385", number * 10, number * 10 + 10)
        return ObjectEntry(key, part.rows, part.rows * 210, part.rows * 31, digest, digest, chunk, origin)


def _number(name: TableName) -> int:
    return int(hashlib.sha256(name.label.encode()).hexdigest()[:7], 16) + 1


def _split(rows: int) -> list[int]:
    """Return the rows of each chunk."""
    chunks = max(1, rows // 100_000)
    return [rows // chunks] * chunks


def _columns(one: Invented, night: int) -> tuple[Column, ...]:
    if night < one.retyped:
        return one.columns
    changed = (
        replace(column, type="character varying(40)") if column.name == "code" else column for column in one.columns
    )
    return (*(column for column in changed if column.name != "amount"), Column("note", "text", True))


def service_tables(nights: int) -> tuple[Invented, ...]:
    """Return the tables of an invented service with its story: growth, a failure, a new table, a rename, a drop."""
    public = {
        "person": (60_000, 40, 0.9), "cell_movement": (2_400_000, 4_000, 1.0), "case_note": (900_000, 900, 0.8),
        "audit_event": (3_100_000, 21_000, 1.0), "alert": (31_000, 12, 0.4), "visit": (420_000, 350, 0.6),
        "money_transaction": (1_300_000, 2_500, 0.85), "custody_period": (60_000, 25, 0.5),
        "staff_member": (2_400, 1, 0.15), "incentive_level": (3, 0, 0.0), "prison": (122, 0, 0.02),
        "offence_code": (11_300, 0, 0.03),
    }  # fmt: skip
    court = {
        "charge": (120_000, 60, 0.5), "court_house": (84, 0, 0.0), "hearing": (64_000, 120, 0.7),
        "sentence": (30_000, 20, 0.5),
    }  # fmt: skip
    found = [
        Invented(name=TableName(schema, name), rows=rows, growth=growth, busy=busy)
        for schema, tables in (("public", public), ("court", court))
        for name, (rows, growth, busy) in tables.items()
    ]
    special = {
        "public.visit": {"retyped": nights - 9}, "court.hearing": {"fails": (nights - 1, nights - 2, nights - 17)},
        "public.alert": {"retyped": nights - 3},
    }  # fmt: skip
    found = [replace(one, **special.get(one.name.label, {})) for one in found]
    found.append(Invented(name=TableName("public", "video_link"), rows=800, growth=90, busy=0.9, born=nights - 12))
    found.append(Invented(name=TableName("public", "old_import"), rows=51_000, dies=nights - 5))
    found.append(Invented(name=TableName("public", "keyworker"), rows=7_000, busy=0.3, dies=nights - 7, oid=777))
    found.append(Invented(name=TableName("public", "key_worker"), rows=7_000, busy=0.3, born=nights - 7, oid=777))
    return tuple(sorted(found, key=lambda one: one.name))


def odd_tables() -> tuple[Invented, ...]:
    """Return tables whose names try to be something else."""
    hostile = Column(
        'x" onmouseover="alert(3)', "</script><script>alert(4)</script>", True, comment="\u2028<b>bold</b>"
    )
    return tuple(
        Invented(name=TableName("public", name), rows=100, growth=10, busy=0.5, columns=(*_COMMON, hostile))
        for name in ODD_NAMES
    )


def many_tables(number: int) -> tuple[Invented, ...]:
    """Return many tables. A few of them change in a night."""
    return tuple(
        Invented(name=TableName(f"part_{at % 20:02}", f"table_{at:05}"), rows=1000 + at, growth=3, busy=0.05)
        for at in range(number)
    )


def nightly_states() -> list[StateHistory | UnreadState]:
    """Return the histories of several databases: a failure, a late one, some failing tables, and many good nights."""
    stories: tuple[tuple[str, int, slice, dict[int, str]], ...] = (
        ("cases", 42, slice(None), {14: "none", 22: "stopped", 36: "failed"}),
        ("courts", 42, slice(0, 5), {41: "failed"}),
        ("licences", 42, slice(5, 16), {9: "failed"}),
        ("payments", 38, slice(10, 14), {}),
        ("prisons", 42, slice(3, 13), {30: "stopped"}),
        ("probation", 42, slice(4, 12), dict.fromkeys((39, 40, 41), "none")),
    )
    found: list[StateHistory | UnreadState] = []
    for seed, (name, nights, part, lost) in enumerate(stories):
        tables = service_tables(nights) if name == "cases" else service_tables(90)[part]
        quiet = tuple(replace(one, born=0, fails=(), retyped=10**6, dies=10**6) for one in tables)
        teller = Teller(MemoryStorage(), name, nights, tables if name == "cases" else quiet, seed)
        teller.tell(lambda night, lost=lost: lost.get(night, ""))  # type: ignore[misc]
        found.append(replace(read_history(teller.ledger, 60), url=f"s3://lake/{name}/_floodmark"))
    return found
