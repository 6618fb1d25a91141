"""Running the whole job in tests, and comparing what it landed with the database, line for line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from isal import igzip

from fix_postgres import PgDatabase
from floodmark.config import DestinationSettings, Guards, Limits, Secret, Selection, Settings, SourceSettings, TableRule
from floodmark.events import Event, Observer
from floodmark.model import TableEntry
from floodmark.native import usual_encoder
from floodmark.pipeline.job import PlannedTable, plan, run
from floodmark.pipeline.publish import RunResult
from floodmark.source.postgres.connect import pinned_settings
from floodmark.state.manifest import Manifest
from floodmark.stop import Stop

# Small chunks, so that small tables have many.
CHUNK = 8 * 8192


class Nightly:
    """A service's nightly job from one database to one folder. `landed` are the lines the manifest names.

    Its guards accept every loss: what a test does to a database is often more than happens in a night.
    """

    def __init__(self, database: PgDatabase, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.events: list[Event] = []
        self.last: Manifest | None = None

    def settings(self, **changes: Any) -> Settings:
        url = changes.pop("url", None) or self.database.url
        selection = {name: changes.pop(name) for name in Selection.__struct_fields__ if name in changes}
        limits = {name: changes.pop(name) for name in Limits.__struct_fields__ if name in changes}
        destination = {name: changes.pop(name) for name in DestinationSettings.__struct_fields__ if name in changes}
        given: dict[str, Any] = {
            "source": SourceSettings(Secret(url), encoder=changes.pop("encoder", usual_encoder())),
            "destination": DestinationSettings(url=str(self.folder), **destination),
            "state_url": str(self.folder / "_floodmark"),
            "selection": Selection(**selection),
            "chunk_bytes": CHUNK,
            "guards": Guards(None, None, "accept"),
            "limits": Limits(**limits),
            "audit_share": 0.0,
        }
        return Settings(**{**given, **changes})

    def run(self, stop: Stop | None = None, **changes: Any) -> RunResult:
        self.events = []
        result = run(self.settings(**changes), self.events.append, stop)
        self.last = result.manifest
        return result

    def run_observed(self, observer: Observer, **changes: Any) -> RunResult:
        """A run that something is done to when an event tells that it is time."""
        self.events = []

        def both(event: Event) -> None:
            self.events.append(event)
            observer(event)

        result = run(self.settings(**changes), both)
        self.last = result.manifest
        return result

    def plan(self, **changes: Any) -> dict[str, PlannedTable]:
        return {one.table.label: one for one in plan(self.settings(**changes), self.events.append).tables}

    def entry(self, label: str) -> TableEntry:
        assert self.last is not None
        (found,) = [entry for entry in self.last.tables if entry.table.label == label]
        return found

    def outcome(self, label: str) -> tuple[str, str]:
        entry = self.entry(label)
        return entry.status, entry.reason.code

    def outcomes(self) -> dict[str, tuple[str, str]]:
        assert self.last is not None
        return {entry.table.label: (entry.status, entry.reason.code) for entry in self.last.tables}

    def extracted_chunks(self, label: str) -> int:
        """How many of a table's objects this run wrote."""
        return sum(entry.origin == "extracted" for entry in self.entry(label).objects)

    def landed(self, label: str) -> list[bytes]:
        """The lines of all objects that the last manifest names for a table, in order."""
        lines: list[bytes] = []
        for entry in self.entry(label).objects:
            data = (self.folder / entry.key).read_bytes()
            raw = igzip.decompress(data) if entry.key.endswith(".gz") else data
            assert len(data) == entry.stored_bytes and len(raw) == entry.raw_bytes
            found = raw.splitlines(keepends=True)
            assert len(found) == entry.rows
            lines += found
        return lines

    def received(self) -> dict[str, dict[str, list[bytes]]]:
        """What was landed as plain lines, by any run: for each table what each timestamp holds, in their order."""
        found: dict[str, dict[str, list[bytes]]] = {}
        for path in sorted(self.folder.rglob("*.jsonl")):
            table, timestamp = (part.partition("=")[2] for part in path.parts[-3:-1])
            found.setdefault(table, {}).setdefault(timestamp, []).extend(path.read_bytes().splitlines(keepends=True))
        return found

    def require_truth(self, *labels: str) -> None:
        """Every table that the manifest calls good holds just what the database holds now."""
        assert self.last is not None
        for entry in self.last.tables:
            if entry.status in ("extracted", "unchanged") and (not labels or entry.table.label in labels):
                truth = lines_of(self.database.dsn, f'"{entry.schema}"."{entry.name}"', entry)
                assert sorted(self.landed(entry.table.label)) == sorted(truth), f"{entry.table.label} is wrong"


def lines_of(dsn: str, relation: str, entry: TableEntry) -> list[bytes]:
    """What row_to_json gives for a table now: an independent reading, through no code of Floodmark's but the
    pinned settings. Partitions count as part of their parent; inherited tables do not."""
    columns = ", ".join('"' + column.name.replace('"', '""') + '"' for column in entry.columns)
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")
        connection.execute(pinned_settings(Limits(), connection.info.server_version))
        kind = connection.execute(
            "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)", [relation]
        ).fetchone()
        assert kind is not None, f"{relation} is gone"
        only = "ONLY " if kind[0] == "r" else ""
        rows = connection.execute(f"SELECT row_to_json(r.*)::text FROM (SELECT {columns} FROM {only}{relation}) r")
        return [row[0].replace("\n", " ").replace("\r", " ").encode() + b"\n" for row in rows]


@pytest.fixture
def nightly(pg: PgDatabase, tmp_path: Path) -> Nightly:
    """A nightly job on a fresh database of the default version."""
    return Nightly(pg, tmp_path / "landing")


@pytest.fixture
def nightly_any(pg_any: PgDatabase, tmp_path: Path) -> Nightly:
    """A nightly job on a fresh database of each version found."""
    return Nightly(pg_any, tmp_path / "landing")


@pytest.fixture
def make_nightly(tmp_path: Path) -> Iterator[Callable[[PgDatabase], Nightly]]:
    """A nightly job on a database of the test's choice."""
    yield lambda database: Nightly(database, tmp_path / "landing")


def rule(**named: Any) -> TableRule:
    return TableRule(**named)
