"""Tables as Parquet files, one per chunk, with an index that says which files make up the tables now.

Files never change. A load writes new ones under unique names, then moves the index by compare-and-swap. Files that the
index no longer names stay in it as superseded, for readers that began earlier. A load at least a day later deletes
them. So a reader that follows the index sees one run's snapshot. A load that ended before the index moved changed
nothing. A later load removes its files after a day.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from msgspec.structs import replace

from floodmark.errors import ConfigError, Conflict, FloodmarkError, StorageDenied, StorageError
from floodmark.events import Observer, Warned
from floodmark.layout import timestamp_text
from floodmark.load.chunk_files import ChunkFile, FilePlace, write_file, written_files
from floodmark.load.parquet_files import INDEX, file_key, folders, is_dead, is_file
from floodmark.load.target import LoadSource, StagedTable, TargetContent
from floodmark.model import Column, ObjectEntry, TableName
from floodmark.reader import extras
from floodmark.reader.reader import open_data
from floodmark.reader.types import ColumnType
from floodmark.state.consumers import ParquetFile, ParquetIndex, ParquetTable, SupersededFile
from floodmark.state.documents import Documents
from floodmark.state.manifest import decode, encode
from floodmark.storage.base import Body
from floodmark.storage.probe import exists_as_put
from floodmark.storage.worker_places import WorkerPlaces
from floodmark.wording import iso_time

# The age at which a load that has not moved the index counts as dead. A superseded file is kept this long for its
# readers.
_GRACE = timedelta(days=1)
_KEPT = timedelta(days=1)
# Files by the digest of their lines.
_Files = defaultdict[str, list[ParquetFile]]


class ParquetPlace:
    """A target of `load`: an S3 prefix or a folder."""

    def __init__(self, url: str, observer: Observer) -> None:
        extras.pyarrow()
        self._observer = observer
        self._storage = open_data(url, observer)
        self._documents, self._workers = Documents(self._storage), WorkerPlaces(self._storage)
        self._load = f"{timestamp_text(datetime.now(UTC))}-{secrets.token_hex(3)}"
        self._index: ParquetIndex | None = None
        self._etag: str | None = None
        self._staged: dict[TableName, ParquetTable] = {}
        self._written: list[str] = []
        self._expired: list[str] = []
        self.url = self._storage.url

    @property
    def load_id(self) -> str:
        """Return the mark in the names of this load's files. No other load has it."""
        return self._load

    def loaded(self, source: LoadSource) -> TargetContent | None:
        """Return what the index names. Raises ConfigError if other files are there, StateUnreadable, StorageError."""
        try:
            found = self._documents.fetch(ParquetIndex, INDEX)
            if found is None:
                self._require_ours()
                return None
        except StorageDenied as error:
            raise _place_unreadable(error, self.url) from None
        self._index, self._etag = found
        source = LoadSource(self._index.dialect, self._index.database, self._index.system_identifier)
        tables = {TableName(one.schema, one.name): (one.checksum, one.shape) for one in self._index.tables}
        return TargetContent(source, tables)

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        return tuple(kind.arrow for kind in types)

    def prepare(self) -> None:
        """Do nothing: this target needs no preparation."""

    def stage(self, staged: StagedTable) -> int:
        """Write the files that do not exist yet, and reuse the others."""
        table = staged.table
        there = self._files_of(table.name, staged.shape) if not staged.full else _Files(list)
        found = {number: self._taken_over(staged, one, there) for number, one in enumerate(table.objects)}
        found |= self._new_files(staged, [number for number, file in found.items() if file is None])
        files = tuple(file for _, file in sorted(found.items()) if file is not None)
        self._staged[table.name] = ParquetTable(
            schema=table.name.schema,
            name=table.name.name,
            run_id="",
            checksum=table.entry.checksum or "",
            shape=staged.shape,
            rows=sum(one.rows for one in files),
            columns=tuple(
                Column(column.name, kind.arrow, column.nullable)
                for column, kind in zip(table.columns, staged.types, strict=True)
            ),
            files=files,
        )
        return sum(one.rows for one in files)

    def staged(self, name: TableName) -> ParquetTable:
        """Return what was staged for a table."""
        return self._staged[name]

    def require_droppable(self, name: TableName) -> None:
        """Do nothing: a table can always be dropped here."""

    def publish(
        self, source: LoadSource, run_id: str, staged: Sequence[StagedTable], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        """Publish all staged tables or none, in one step."""
        self.commit(source, run_id, staged, drop)
        self.clear([*(one.table.name for one in staged), *drop])
        return {}

    def commit(
        self,
        source: LoadSource,
        run_id: str,
        staged: Sequence[StagedTable],
        drop: Sequence[TableName],
        more: Iterable[str] = (),
        in_use: Iterable[TableName] = (),
    ) -> None:
        """Move the index. Raises Conflict if another load moved it meanwhile; this load's files are then deleted.

        `more` are keys of other objects that this commit supersedes. Readers still use the superseded files of the
        tables `in_use`, so these count as superseded only from now on.
        """
        index = self._next_index(source, run_id, staged, drop)
        now = datetime.now(UTC)
        superseded = self._superseded(index.tables, more, in_use, iso_time(now, "microseconds"))
        oldest = iso_time(now - _KEPT, "microseconds")
        waiting = tuple(one for one in superseded if one.superseded_at > oldest)
        self._expired = [one.key for one in superseded if one not in waiting]
        self._move(replace(index, loaded_at=iso_time(now, "microseconds"), superseded=waiting))

    def clear(self, tables: Iterable[TableName]) -> None:
        """Delete files superseded a day ago, and what dead loads left in these tables, and unfinished puts.

        The load is complete before this step, so a failed deletion is a warning and not an error.
        """
        assert self._index is not None
        dead = datetime.now(UTC) - _GRACE
        kept = {*_keys(self._index.tables), *(one.key for one in self._index.superseded), *self._written}
        with self._told("s3:DeleteObject"):
            self._delete(key for key in self._expired if key not in kept)
        with self._told("s3:ListBucket for this prefix, and s3:DeleteObject"):
            left = [key for folder in folders(tables) for key in self._storage.list(folder) if is_dead(key, dead)]
            self._delete(key for key in left if key not in kept)
            for name in self._storage.unfinished(dead):
                self._storage.discard(name)

    @contextmanager
    def _told(self, rights: str) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            lacks = isinstance(error, StorageDenied) and self.url.startswith("s3://")
            needs = f" (the role needs {rights})" if lacks else ""
            self._observer(Warned(f"unused files remain: {error.sentence}{needs}"))

    def put(self, key: str, body: Body) -> None:
        """Write an object under a key that no other load can write."""
        self._storage.put(key, body)
        self._written.append(key)

    def abandon(self) -> None:
        """Delete this load's files. A failure is only a warning, because the cause of the abandon matters more."""
        with self._told("s3:DeleteObject"):
            self._delete(self._written)

    def close(self) -> None:
        """Do nothing: no resource is open."""

    def _next_index(
        self, source: LoadSource, run_id: str, staged: Sequence[StagedTable], drop: Sequence[TableName]
    ) -> ParquetIndex:
        old = self._index.tables if self._index is not None else ()
        tables = {TableName(one.schema, one.name): one for one in old if TableName(one.schema, one.name) not in drop}
        for one in staged:
            tables[one.table.name] = replace(self._staged[one.table.name], run_id=run_id)
        return ParquetIndex(
            run_id=run_id,
            loaded_at="",
            dialect=source.dialect,
            system_identifier=source.system_identifier,
            database=source.database,
            tables=tuple(tables[name] for name in sorted(tables)),
        )

    def _move(self, index: ParquetIndex) -> None:
        """Make readers see this load.

        Its files are deleted only if no index can name them. If the outcome stays unknown, a later load removes them.
        """
        swap = self._documents.replace(INDEX, encode(index), self._etag, lambda data: self._took_effect(data, index))
        if not swap.ours or swap.there is None:
            self.abandon()
            raise Conflict(
                "can't publish the load",
                on=f"{self.url}/{INDEX}",
                why="another load changed the index meanwhile",
                hint="Load again if that load was of an older run.",
            )
        self._index, self._etag = self._read(swap.there.data), swap.there.etag

    def _took_effect(self, data: bytes, ours: ParquetIndex) -> bool:
        """Return True if this is our index, or one that another load built on ours and that names our files."""
        found = self._read(data)
        named = {*_keys(found.tables), *(one.key for one in found.superseded)}
        return found == ours or not named.isdisjoint(self._written)

    def _read(self, data: bytes) -> ParquetIndex:
        return decode(ParquetIndex, data, self._documents.at(INDEX))

    def _superseded(
        self, tables: Iterable[ParquetTable], more: Iterable[str], in_use: Iterable[TableName], now: str
    ) -> list[SupersededFile]:
        """Return all superseded files that are not deleted yet, each once, if `tables` are the tables from now on."""
        if self._index is None:
            return []
        used = tuple(folders(in_use))
        found = {
            one.key: now if one.key.startswith(used) else one.superseded_at for one in self._index.superseded
        } | dict.fromkeys(more, now)
        for key in _keys(self._index.tables) - _keys(tables):
            found[key] = now
        return [SupersededFile(key=key, superseded_at=found[key]) for key in sorted(found)]

    def _taken_over(self, staged: StagedTable, one: ObjectEntry, there: _Files) -> ParquetFile | None:
        """Return an existing file for a chunk.

        A file is used for one chunk only, even if another has the same lines.
        """
        left = there[one.content_sha256]
        while left:
            file = left.pop(0)
            if exists_as_put(self._storage, file.key, file.stored_bytes, file.sha256):
                staged.report_unchanged(one)
                return file
        return None

    def _new_files(self, staged: StagedTable, numbers: Sequence[int]) -> dict[int, ParquetFile | None]:
        """Write the files of these chunks."""
        table = staged.table
        files = {n: ChunkFile(n, table.objects[n], file_key(table.name, self._load, n)) for n in numbers}
        self._written += (file.key for file in files.values())
        write = partial(write_file, self._storage, staged)
        found: dict[int, ParquetFile | None] = {}
        for number, written in written_files(staged, list(files.values()), write, FilePlace(self.url)):
            file = files[number]
            self._workers.require_same(written.worker, file.key, written.size)
            found[number] = ParquetFile(
                key=file.key,
                rows=written.rows,
                stored_bytes=written.size,
                sha256=written.sha256,
                content_sha256=file.one.content_sha256,
            )
        return found

    def _files_of(self, name: TableName, shape: str) -> _Files:
        """Return the loaded table's files by the digest of their lines, if its columns are the same."""
        found: _Files = defaultdict(list)
        for table in self._index.tables if self._index is not None else ():
            if TableName(table.schema, table.name) == name and table.shape == shape:
                for file in table.files:
                    found[file.content_sha256].append(file)
        return found

    def _require_ours(self) -> None:
        """Refuse a place with foreign files. Without an index, only files of an unfinished first load can be there."""
        if not all(is_file(key) for key in self._storage.list("")):
            raise ConfigError(
                "can't load into this place",
                on=self.url,
                why=f"it is not empty and has no {INDEX}, so Floodmark did not load it",
                hint="Name an empty prefix or folder, or one that does not exist yet.",
            )

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._storage.delete(key)


def _place_unreadable(error: StorageDenied, url: str) -> StorageDenied:
    hint = "A first load must list the place, and every load must read it."
    if url.startswith("s3://"):
        hint += " Grant s3:ListBucket on the bucket for this prefix, and s3:GetObject below it."
    return StorageDenied("can't read what was loaded before", on=url, why=error.why, hint=hint)


def _keys(tables: Iterable[ParquetTable]) -> set[str]:
    return {one.key for table in tables for one in table.files}
