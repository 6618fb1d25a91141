"""The files of a table's chunks: tasks for an engine, which can run them on other machines.

The caller decides the key of each file before its task begins, so it knows all files that can exist, whatever becomes
of the tasks. A task that runs twice finds its own file there. What crosses the wire are names, types, sizes and
digests, never a row: not even the bounds of a column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from floodmark.engine.base import Away, TaskStopped, WorkerWatch
from floodmark.errors import DoesNotFit, Stopped
from floodmark.load.parquet_files import has_short_lines, with_field_ids, write_groups
from floodmark.load.target import LoadWatch, StagedTable
from floodmark.model import ObjectEntry, TableEntry
from floodmark.objects.spool import Spool
from floodmark.reader.reader import Table
from floodmark.storage import kept_storage
from floodmark.storage.base import Storage
from floodmark.storage.probe import put_once
from floodmark.storage.retry import RetryingStorage
from floodmark.storage.worker_places import WORKER

File = TypeVar("File")
# A row group is in memory too, so larger files go to the disk at once.
_SPOOL_MEMORY = 1024**2


class ChunkFile(Struct, frozen=True):
    """A chunk, its number in the table, and the key of the file to write."""

    number: int
    one: ObjectEntry
    key: str


class WrittenFile(Struct, frozen=True):
    """A file as it was put, by the process `worker`."""

    rows: int
    size: int
    sha256: str
    worker: str


class FilePlace(Struct, frozen=True):
    """A place that other machines can write to, with their own credentials. Keys can begin with its URL.

    `field_ids` are the ids of the columns in the file, if it is to have ids.
    """

    url: str
    field_ids: tuple[int, ...] = ()


class _RemoteTable(Struct, frozen=True):
    """A table whose chunks another machine reads, and the place of their files."""

    entry: TableEntry
    dialect: str
    data: str
    text: tuple[str, ...]
    place: FilePlace


class _FileTask(Struct, frozen=True):
    """A chunk's file. If `writes` is false, the chunk is only read, to find the columns that do not fit."""

    file: ChunkFile
    writes: bool


def write_file(storage: Storage, staged: StagedTable, file: ChunkFile, field_ids: Sequence[int] = ()) -> WrittenFile:
    """Write a chunk as a Parquet file. Raises the errors of reading the chunk, StorageError."""
    with Spool(_SPOOL_MEMORY) as spool:
        reader = staged.stream(infinite=False, chunks=[file.one]).reader
        if field_ids:
            reader = reader.cast(with_field_ids(reader.schema, field_ids))
        rows = write_groups(spool, reader, statistics=has_short_lines(file.one.raw_bytes, file.one.rows))
        body = spool.body
        put_once(storage, file.key, body)
        return WrittenFile(rows, body.size, body.sha256, WORKER)


def written_files(
    staged: StagedTable, files: Sequence[ChunkFile], write: Callable[[ChunkFile], File], place: FilePlace | None
) -> Iterator[tuple[int, File | WrittenFile]]:
    """Write the files, in any order. Yield each one's number, and what `write` returned or another machine put.

    Without a `place`, this process writes. If a value does not fit, the other chunks are still read, so that the error
    names all columns that do not fit. Raises DoesNotFit, Stopped, and the errors of `write`.
    """
    tasks = _FileTasks(staged, write)
    away = None if place is None else tasks.away(place)
    try:
        for file, outcome in staged.watch.engine.run_tasks(tasks.run, files, away):
            written = tasks.taken(outcome)
            if written is not None:
                yield file.number, written
    finally:
        tasks.over = True
    if tasks.unfit:
        raise staged.does_not_fit(tasks.unfit)


class _FileTasks(Generic[File]):
    """The tasks of one table, and the columns that turned out not to fit. `over` ends the tasks that still wait."""

    def __init__(self, staged: StagedTable, write: Callable[[ChunkFile], File]) -> None:
        self._staged, self._write = staged, write
        self.unfit = set[str]()
        self.over = False
        self._failed: BaseException | None = None

    def run(self, file: ChunkFile) -> File | None:
        """Do a task in this process."""
        if self.over:
            raise TaskStopped
        try:
            if not self.unfit:
                return self._write(file)
            _read_only(self._staged, file)
        except DoesNotFit:
            raise
        except BaseException as error:
            self._failed, self.over = self._failed or error, True
            raise
        return None

    def away(self, place: FilePlace) -> Away[ChunkFile]:
        """Return the same work for other machines."""
        watch, table = self._staged.watch, self._staged.table
        entry = replace(table.entry, objects=(), watermark=None)
        remote = _RemoteTable(entry, table.dialect, table.place, self._staged.text, place)
        return Away(_write_away, remote, partial(self._message, place), watch.stop.is_set)

    def _message(self, place: FilePlace, file: ChunkFile) -> _FileTask:
        return _FileTask(replace(file, key=file.key.removeprefix(f"{place.url}/")), writes=not self.unfit)

    def taken(self, outcome: File | WrittenFile | BaseException | None) -> File | WrittenFile | None:
        """Return the written file, or None if a chunk was only read. Raises the error that ends the table."""
        if isinstance(outcome, TaskStopped) and self._failed is not None:
            raise self._failed  # it ended the tasks after it, and they can be noticed before it
        if isinstance(outcome, TaskStopped | Stopped):
            raise Stopped(self._staged.watch.stop.number)
        if isinstance(outcome, DoesNotFit) and (outcome.columns or self.unfit):
            self.unfit.update(outcome.columns)
            return None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def _write_away(remote: _RemoteTable, task: _FileTask, watch: WorkerWatch) -> WrittenFile | None:
    """Write one chunk's file on a machine that has nothing but the message and its own credentials."""
    table = Table(remote.entry, remote.dialect, RetryingStorage(kept_storage(remote.data), watch.observer))
    staged = StagedTable(table, table.types(remote.text), "", remote.text, LoadWatch(watch.observer, watch.stop))
    if not task.writes:
        _read_only(staged, task.file)
        return None
    place = remote.place
    return write_file(RetryingStorage(kept_storage(place.url), watch.observer), staged, task.file, place.field_ids)


def _read_only(staged: StagedTable, file: ChunkFile) -> None:
    for _ in staged.stream(infinite=False, chunks=[file.one]).reader:
        pass
