"""A snapshot that worker processes on other machines read, each chunk through a connection of its own.

A worker knows no coordinator, only facts about the snapshot. Its rows are those of the coordinator's threads because it
reads by the same code (`chunk_reader`), under the same checks:

- It imports the exported snapshot. The server refuses that once the snapshot is gone, and it knows no other server's
  snapshots. What the import gives is compared with the coordinator's view: the snapshot, and the server's start time.
  If a worker can't import a snapshot that the coordinator still has, it has found another server.
- It is the same role, in the same database, with the same pinned settings.
- The relations that it locked, and their files, are the snapshot's.
- If a mask hashes, its key is the coordinator's.

A connection serves one chunk. So a cluster has no more of them than chunks in flight. A broken connection is tried
again: if the snapshot is gone, the next import tells.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import psycopg
from msgspec import Struct
from msgspec.structs import replace

from floodmark.config import Secret, Settings
from floodmark.config.load import SOURCE
from floodmark.config.tables import MASK_KEY
from floodmark.errors import ConfigError, FloodmarkError, SnapshotLost, SourceError, SourceUnavailable
from floodmark.model import Chunk, Format, TableName
from floodmark.native import EncoderName
from floodmark.observed import Extracted, Part, TableInfo
from floodmark.source.base import Write
from floodmark.source.masks import mask_identity
from floodmark.source.postgres.address import ServerAddress, address
from floodmark.source.postgres.chunk_reader import ChunkReader
from floodmark.source.postgres.connect import cancelled_by, close_and_wait, connect, translated
from floodmark.source.postgres.coordinator import Connection, ExportedSnapshot
from floodmark.source.postgres.imports import NotImported, Task, import_snapshot
from floodmark.source.postgres.masks import mask_settings
from floodmark.source.postgres.statements import PgTable
from floodmark.source.postgres.transactions import SnapshotTransactions
from floodmark.stop import Stop

_UNFIT = "a worker can't read for this run"
_SAME = f"The worker's {SOURCE} (or PGHOST …) must lead to the coordinator's server, database and role."


class NotReached(SourceUnavailable):
    """A server that a worker can't reach."""


class SharedPostgres(Struct, frozen=True):
    """The coordinator's side: it tells what others need. `mask` is the identity of the mask key."""

    exported: ExportedSnapshot
    tables: Mapping[TableName, PgTable]
    maker: EncoderName
    row_format: Format
    mask: str | None
    transactions: SnapshotTransactions

    def part(self, table: TableInfo, part: Part) -> PostgresPart:
        known = self.tables[table.table]
        info = replace(known.info, parts=(part,), unique_keys=(), comment=None, unapproved=(), attributes={})
        one = replace(known, info=info, reads={part.id: known.reads[part.id]})
        return PostgresPart(self.exported, one, self.maker, self.row_format, self.mask if known.hashes else None)

    def close_idle(self) -> None:
        self.transactions.close()

    def error_here(self, table: TableName, error: FloodmarkError) -> FloodmarkError:
        """Return the error of a thread. A worker that can't see a snapshot which still exists ends the run.

        It must not fail one table after another. Its chunks can't be wrong: it has read nothing.
        """
        if not isinstance(error, NotImported | NotReached):
            return self.transactions.error_to_raise(error)
        if not self.transactions.is_alive():
            return SnapshotLost("the snapshot is gone", on=error.on, why=error.why)
        why = ": ".join(filter(None, (error.what, error.why)))
        return ConfigError(_UNFIT, on=error.on, why=why, hint=" ".join(filter(None, (_SAME, error.hint))))


class PostgresPart(Struct, frozen=True):
    """A part of a table, as a message to a worker. It holds no secret and no row."""

    exported: ExportedSnapshot
    table: PgTable
    maker: EncoderName
    row_format: Format
    mask: str | None

    @property
    def info(self) -> TableInfo:
        return self.table.info

    def open(self, settings: Settings, stop: Stop) -> PostgresPartReader:
        """Return a reader with this machine's own credentials. Raises ConfigError."""
        url, key = settings.source.url, settings.selection.mask_key
        if url is not None and not url.reveal().strip().startswith("postgres"):
            _refuse("the source is no PostgreSQL database")
        # A worker without the native encoder lets the server make the lines: they have the same bytes.
        maker = self.maker if settings.source.encoder == "native" else "server"
        return PostgresPartReader(self, address(url), self._mask_settings(key), maker, stop)

    def _mask_settings(self, key: Secret | None) -> dict[str, str]:
        """Return the session settings for `hash`. With another key, the lines would differ from the other workers'."""
        if self.mask is None:
            return {}
        if key is None:
            _refuse(f"a mask hashes, and {MASK_KEY} is not set", f"Set {MASK_KEY} in the worker's environment.")
        if mask_identity(key) != self.mask:
            _refuse("its mask key is another one", f"Set {MASK_KEY} to the coordinator's in the worker's environment.")
        return mask_settings(key)


class PostgresPartReader:
    """The reader of a part on a worker. Each call of `extract` has a connection of its own. `stop` ends it."""

    def __init__(
        self, of: PostgresPart, where: ServerAddress, settings: dict[str, str], maker: EncoderName, stop: Stop
    ) -> None:
        self._of, self._where, self._settings, self._maker, self._stop = of, where, settings, maker, stop

    def extract(self, table: TableInfo, part: Part, chunk: Chunk, open_end: bool, write: Write) -> Extracted:
        exported = self._of.exported
        reader = ChunkReader(self, exported.database, exported.point.xmin or 0, self._maker, self._of.row_format)
        return reader.extract(self._of.table, part, chunk, open_end, write)

    @contextmanager
    def begin(self, what: str, on: str, first: str = "") -> Iterator[Task]:
        """Open a connection and a transaction for one task: see `imports.Transactions`."""
        connection = self._connected()
        try:
            with cancelled_by(self._stop, connection):
                import_snapshot(connection, self._of.exported, self._settings, self._where.label, first=first)
                yield Task(connection)
        except psycopg.Error as error:
            raise translated(error, what, on) from None
        finally:
            close_and_wait(connection)

    def _connected(self) -> Connection:
        try:
            return connect(self._where, self._settings)
        except SourceUnavailable as error:
            raise NotReached(error.what, on=error.on, why=error.why, hint=error.hint) from None
        except SourceError as error:
            raise NotImported(error.what, on=error.on, why=error.why, hint=error.hint) from None


def _refuse(why: str, hint: str = _SAME) -> NoReturn:
    """Raise an error that ends the run: what this worker reads would not be what the coordinator means."""
    raise ConfigError(_UNFIT, on=socket.gethostname(), why=why, hint=hint)
