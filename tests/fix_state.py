"""Manifests in miniature, a ledger that waits for nothing, and a store that fails to plan."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from floodmark.errors import StorageUnavailable
from floodmark.events import ignore_event
from floodmark.lineage import Lineage
from floodmark.model import Chunk, ChunkMark, ObjectEntry, Point, Reason, TableEntry, TableName, Watermark
from floodmark.retrying import Patience
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import Manifest, ManifestSource, checksum
from floodmark.storage.base import Body, Storage
from floodmark.storage.memory import MemoryStorage
from floodmark.storage.retry import RetryingStorage

MORNING = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
HOME = Lineage("7100000000000000001", 16384, "731", "2026-11-01T00:00:00Z", None, False)
RESTORED = replace(HOME, started_at="2026-11-23T00:00:00Z")


def no_wait(seconds: float) -> None:
    """Stands for time.sleep."""


def quick_ledger(storage: Storage, tries: int = 2, **options: Any) -> Ledger:
    """A ledger over a store that is tried twice, without waiting."""
    patient = RetryingStorage(storage, ignore_event, Patience(tries=tries), no_wait)
    return Ledger(patient, **{"sleep": no_wait, "now": lambda: MORNING, **options})


def point(moment: int, lineage: Lineage | None = HOME) -> Point:
    """The moment so many transactions after the beginning."""
    if lineage is None:
        return Point(taken_at(moment))
    return Point(taken_at(moment), 1000 + moment, 1000 + moment, lineage)


def taken_at(moment: int) -> str:
    return f"2026-11-23T01:{moment // 60:02d}:{moment % 60:02d}.000000Z"


def stored(key: str, origin: str = "extracted") -> ObjectEntry:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return ObjectEntry(key, 3, 90, 40, digest, digest, Chunk("16385"), origin)  # type: ignore[arg-type]


def entry(name: str, at: Point, *objects: ObjectEntry, **changes: Any) -> TableEntry:
    """A good entry: extracted at that moment, to these objects."""
    marks = tuple(ChunkMark(one.chunk, 16385, 3, 0, index) for index, one in enumerate(objects))
    good = TableEntry(
        schema="public",
        name=name,
        status="extracted",
        reason=Reason("rows_changed", "3 rows are new"),
        as_of=at.taken_at,
        changed_at=at.taken_at,
        changed_by="someone",
        watermark=Watermark(at, 16385, marks) if at.lineage is not None else None,
        checksum=checksum(objects),
        rows=3 * len(objects),
        raw_bytes=90 * len(objects),
        stored_bytes=40 * len(objects),
        objects=objects,
    )
    return replace(good, **changes)


def never(name: str) -> TableEntry:
    """A table that was tried, and never read."""
    return TableEntry(schema="public", name=name, status="failed", reason=Reason("denied", "no SELECT"))


def failed_over(good: TableEntry) -> TableEntry:
    return replace(good, status="failed", reason=Reason("failed", "the connection broke"))


def dropped(good: TableEntry) -> TableEntry:
    return replace(good, status="dropped", reason=Reason("dropped", "gone"), watermark=None)


def manifest(run_id: str, at: Point, *tables: TableEntry, **changes: Any) -> Manifest:
    whole = Manifest(
        run_id=run_id,
        parent=None,
        tool_version="0.1.0",
        started_at="2026-11-23T01:00:00.000Z",
        finished_at="2026-11-23T01:02:00.000Z",
        timestamp="20261123010000Z",
        destination="s3://lake/cases",
        layout="plain",
        consistent=True,
        source=ManifestSource(
            dialect="postgresql",
            database="cases",
            system_identifier="7100000000000000001",
            server_version="18.0",
            snapshot=at,
        ),
        tables=tables,
    )
    return replace(whole, **changes)


def table(name: str) -> TableName:
    return TableName("public", name)


def put(store: MemoryStorage, key: str, data: bytes) -> None:
    store.put(key, Body(io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest()))


def run(run_id: str, moment: int = 1, base: Current | None = None, name: str = "t") -> Manifest:
    """What a run that extracted one table at that moment commits on top of `base`."""
    at = point(moment)
    whole = manifest(run_id, at, entry(name, at, stored(f"{name}/{run_id}")))
    return replace(whole, parent=None if base is None else base.head.manifest)


def commit(ledger: Ledger, run_id: str, moment: int = 1) -> Current:
    base = ledger.current()
    ledger.commit(run(run_id, moment, base), base)
    current = ledger.current()
    assert current is not None
    return current


def chain(ledger: Ledger) -> list[str]:
    return [one.run_id for one in ledger.history(100)]


class Plan:
    """Faults for a store: what to do at the n-th time an operation on a key is at a moment."""

    def __init__(self, store: MemoryStorage) -> None:
        self._todo: list[tuple[tuple[str, str, str], Callable[[], object]]] = []
        store.faults = self

    def at(self, operation: str, key: str, moment: str, *acts: Callable[[], object]) -> None:
        self._todo += [((operation, key, moment), act) for act in acts]

    def __call__(self, operation: str, key: str, moment: str) -> None:
        for index, (when, act) in enumerate(self._todo):
            if when == (operation, key, moment):
                del self._todo[index]
                act()
                return

    @property
    def spent(self) -> bool:
        return not self._todo


def lost() -> None:
    raise StorageUnavailable("put an object", why="a test says so")


def nothing() -> None:
    """Let one call pass."""
