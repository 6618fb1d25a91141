"""An invented database of any size, and a store of tiny objects: the pieces of the case `scale`.

The database knows the size of each table and answers from arithmetic, so it holds no data. A chunk's lines are a few
bytes, whatever its size is said to be. On each day from the second on, one chunk in a hundred has changed.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from floodmark.config import Selection
from floodmark.errors import ConditionFailed, ObjectMissing
from floodmark.lineage import Lineage
from floodmark.model import Chunk, Column, Fingerprint, Point, SourceIdentity, TableName
from floodmark.observed import Extracted, Observation, Part, Question, TableInfo
from floodmark.source.base import BlockLog, Diagnosis, Drawback, LineMaker, NamedRelation, SharedSnapshot, Write
from floodmark.source.selection import TableChoice
from floodmark.storage.base import Body, Condition, Fetched, IfAbsent, Stat

GIB = 1024**3
BLOCK = 8192
# The number of tables of each size in GiB, for 10 TiB in 5,000 tables.
SIZES = ((4, 1024.0), (40, 80.0), (400, 5.0), (1_000, 0.5), (3_556, 0.02))
COLUMNS = tuple(Column(f"column_{number}", "bigint", nullable=number > 0) for number in range(12))
ROWS = 3
# Transactions of a day, and the share of chunks that change in one.
XIDS = 1_000_000
ONE_IN = 100


class InventedTables(Struct, frozen=True):
    """The tables of a database: `share` of the numbers of SIZES, on a day. Nothing changes if `changing` is False."""

    share: float = 1.0
    day: int = 1
    changing: bool = True

    def infos(self) -> list[TableInfo]:
        """Return the tables, ordered by name."""
        sizes = [gib for number, gib in SIZES for _ in range(max(1, round(number * self.share)))]
        return [_info(number, int(gib * GIB)) for number, gib in enumerate(sizes)]

    def changed_on(self, part: str, start: int) -> int:
        """Return the last day on which a chunk changed. The first day made all of them."""
        if not self.changing:
            return 1
        place = int.from_bytes(hashlib.blake2b(f"{part}/{start}".encode(), digest_size=4).digest(), "big") % ONE_IN
        return max((day for day in range(2, self.day + 1) if day % ONE_IN == place), default=1)


def _info(number: int, size: int) -> TableInfo:
    name, oid = TableName("public", f"table_{number:05d}"), 16384 + 8 * number
    blocks = max(1, size // BLOCK)
    part = Part(str(oid), name, oid, blocks, size, by_block=True, narrow=True, stamp=_hex(f"stamp {oid}"), logged=True)
    return TableInfo(
        table=name,
        oid=oid,
        kind="table",
        columns=COLUMNS,
        parts=(part,),
        fingerprint=Fingerprint(_hex(name.label), _hex("config"), 4),
        primary_key=("column_0",),
    )


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class InventedSnapshot:
    """A snapshot of invented tables on one day."""

    block_log: BlockLog | None = None
    line_maker: LineMaker | None = None
    shared: SharedSnapshot | None = None
    drawbacks: Sequence[Drawback] = ()
    choice = TableChoice()
    default_schema = "public"
    parallelism = 4

    def __init__(self, tables: InventedTables, chunks_left: list[int] | None = None) -> None:
        self._tables, self._left = tables, chunks_left
        self.identity = SourceIdentity("postgresql", "7000000000000000001", "invented", "18.0")
        lineage = Lineage("7000000000000000001", 5, "700", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", False)
        xid = XIDS * tables.day
        self.point = Point(datetime.now(UTC).isoformat().replace("+00:00", "Z"), xid, xid, lineage)

    def tables(self, selection: Selection, encoding_digest: str) -> list[TableInfo]:
        return self._tables.infos()

    def existing_relations(self, names: Sequence[TableName]) -> Mapping[TableName, NamedRelation]:
        return {}

    def redefined_tables(
        self, tables: Sequence[TableInfo], selection: Selection, encoding_digest: str
    ) -> list[TableName]:
        return []

    def observe(self, questions: Sequence[Question]) -> list[Observation]:
        return [
            Observation(ROWS, ROWS * (self._xid_of(one.part, one.chunk) >= one.since), 0, one.part.relfilenode)
            for one in questions
        ]

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        day = self._tables.changed_on(part.id, chunk.start)
        for row in range(ROWS):
            write(b'{"table":%s,"block":%d,"day":%d,"row":%d}\n' % (part.id.encode(), chunk.start, day, row))
        return Extracted(ROWS, Observation(ROWS, 0, 0, part.relfilenode))

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def _xid_of(self, part: Part, chunk: Chunk) -> int:
        """Return the transaction that last wrote to a chunk: in the middle of the day before its change shows."""
        return XIDS * self._tables.changed_on(part.id, chunk.start) - XIDS // 2


class InventedSource:
    """A source of invented tables."""

    label = "invented"

    def __init__(self, tables: InventedTables) -> None:
        self._tables = tables

    def diagnose(self) -> Sequence[Diagnosis]:
        return ()

    def snapshot(self) -> InventedSnapshot:
        return InventedSnapshot(self._tables)


class TinyObjects:
    """A store whose objects are rows of one SQLite file, so that it takes no memory of the process that is measured.

    `counted` is called with each operation and its bytes.
    """

    def __init__(self, file: Path, counted: Callable[[str, int], object] = lambda what, size: None) -> None:
        self._counted, self._lock = counted, threading.Lock()
        self._store = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._store.execute("PRAGMA journal_mode = OFF")
        self._store.execute("PRAGMA synchronous = OFF")
        self._store.execute("CREATE TABLE IF NOT EXISTS o (key TEXT PRIMARY KEY, data BLOB, sha256 TEXT) WITHOUT ROWID")

    @property
    def url(self) -> str:
        return "s3://invented/landing"

    def check(self) -> None:
        pass

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        data = body.stream.read()
        self._counted("PUT", len(data))
        with self._lock:
            try:
                verb = "INSERT" if isinstance(condition, IfAbsent) else "INSERT OR REPLACE"
                self._store.execute(f"{verb} INTO o VALUES (?, ?, ?)", (key, data, body.sha256))
            except sqlite3.IntegrityError:
                raise ConditionFailed("can't put an object", on=key, why="it exists already") from None
        return f'"{body.sha256}"'

    def get(self, key: str) -> Fetched:
        self._counted("GET", 0)
        with self._lock:
            found = self._store.execute("SELECT data, sha256 FROM o WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise ObjectMissing("can't read an object", on=key, why="it does not exist")
        return Fetched(found[0], f'"{found[1]}"')

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self.get(key).data)

    def stat(self, key: str) -> Stat | None:
        self._counted("HEAD", 0)
        with self._lock:
            found = self._store.execute("SELECT length(data), sha256 FROM o WHERE key = ?", (key,)).fetchone()
        return None if found is None else Stat(found[0], f'"{found[1]}"', found[1])

    def delete(self, key: str) -> None:
        self._counted("DELETE", 0)
        with self._lock:
            self._store.execute("DELETE FROM o WHERE key = ?", (key,))

    def list(self, prefix: str) -> Iterator[str]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        with self._lock:
            found = self._store.execute("SELECT key FROM o WHERE key >= ? AND key < ?", (prefix, end)).fetchall()
        self._counted("LIST", 0)
        return (key for (key,) in found)

    def unfinished(self, before: datetime) -> Iterator[str]:
        return iter(())

    def discard(self, name: str) -> None:
        pass
