"""Delivery of changed tables to a landing zone, each as one complete set of files. `delivery_plan` chooses the tables.

For each table the order is fixed: verify every object, then put all objects, then move the cursor. The target only
receives puts. Before the first put, the cursor names every table to send and the timestamp in its keys. So a delivery
that died midway is repeated with the same bytes under the same keys. No receiver keeps half a table under one
timestamp, unless the table changed again meanwhile. Then it is sent whole under a later timestamp.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from floodmark.config import DeliverySettings
from floodmark.deliver.plan import Plan, name_of, planned, require_same_target
from floodmark.errors import ConfigError, FloodmarkError, ObjectMissing, StorageDenied, VerificationFailed
from floodmark.events import Observer, StepStarted, TableGivenUp, ignore_event
from floodmark.layout import LAYOUTS, data_key, database_segment, table_segment
from floodmark.meter import ChunkMeter
from floodmark.model import Encoding, ObjectEntry, TableName
from floodmark.objects.numbers import most_bytes
from floodmark.objects.spool import Spool
from floodmark.objects.verified import as_stored, converted
from floodmark.reader.cursor import StoredCursor
from floodmark.reader.reader import Snapshot, Table
from floodmark.state.consumers import Delivery
from floodmark.stop import NEVER, Stop, stopped_leaving
from floodmark.storage import StorageOptions, open_storage
from floodmark.storage.base import Storage
from floodmark.storage.copying import Copier
from floodmark.storage.retry import RetryingStorage
from floodmark.wording import plural

Status = Literal["delivered", "unchanged", "failed", "gone"]
_NO_LETTER = re.compile(r"[^A-Za-z0-9_]+")


class Target(Struct, frozen=True):
    """The place of a delivery. `copier` makes the store copy by itself, if it can. `name` is the cursor's name."""

    name: str
    settings: DeliverySettings
    storage: Storage
    make_copier: Callable[[Storage], Copier | None]

    def form(self, database: str) -> str:
        """Return the form of the files for a source database.

        A new form means other files or keys: then everything is resent.
        """
        chosen = self.settings
        numbers = "" if chosen.numbers == "as-is" else f" {chosen.numbers}"
        return f"{chosen.layout} {chosen.compression} {chosen.database_name or f'-{database}'}{numbers}"

    def encoding(self, table: Table) -> Encoding:
        stored = table.entry.encoding or Encoding()
        compression = stored.compression if self.settings.compression == "keep" else "none"
        quoted = self.settings.numbers == "quote-large" and stored.format == "jsonl"
        return replace(stored, compression=compression, numbers="quote-large" if quoted else stored.numbers)


class Delivered(Struct, frozen=True):
    """A table's outcome. `gone`: it was delivered once and is no longer part of the snapshot."""

    table: TableName
    status: Status
    rows: int | None = None
    keys: tuple[str, ...] = ()
    error: FloodmarkError | None = None

    @property
    def objects(self) -> int | None:
        return len(self.keys) if self.status == "delivered" else None


class Result(Struct, frozen=True):
    """A delivery's outcome, table by table."""

    name: str
    url: str
    run_id: str
    tables: tuple[Delivered, ...]

    @property
    def failures(self) -> list[FloodmarkError]:
        return [one.error for one in self.tables if one.error is not None]


def open_target(settings: DeliverySettings, observer: Observer) -> Target:
    """Open the target of a delivery. Makes no request. Raises ConfigError."""
    options = StorageOptions(settings.acl, settings.sse, settings.kms_key_id, conditional=False)
    storage = RetryingStorage(open_storage(settings.url, options), observer)
    name = settings.name or _NO_LETTER.sub("-", storage.url).strip("-")[-100:]
    return Target(name, settings, storage, lambda data: _copier(data, settings, options))


def deliver(
    snapshot: Snapshot,
    target: Target,
    cursor: StoredCursor,
    only: Collection[TableName] | None,
    tell: Callable[[Delivered], None],
    stop: Stop = NEVER,
    observer: Observer = ignore_event,
) -> Result:
    """Send what the target lacks. One table's error goes into the result. `only` names the tables to send, None all.

    Raises ConfigError, Conflict if two deliveries share a cursor, StorageError, Stopped.
    """
    require_same_target(cursor, target.name, target.storage.url)
    form = target.form(snapshot.manifest.source.database)
    plan = planned(snapshot, cursor, form, target.settings.resend_after_days, only)
    work = _Work(snapshot, target, cursor, plan, form, stop, observer)
    outcomes = {name: Delivered(name, "gone") for name in plan.gone}
    for table in plan.unchanged:
        outcomes[table.name] = Delivered(table.name, "unchanged", table.entry.rows)
    if plan.moves:
        work.announce()
    observer(StepStarted("delivering", {table.name: table.entry.stored_bytes or 0 for table in plan.stale}))
    with stopped_leaving(lambda: _left(target.name, outcomes, len(plan.stale))):
        for table in plan.stale:
            outcomes[table.name] = outcome = work.send(table)
            tell(outcome)
    tables = tuple(outcomes[name] for name in sorted(outcomes))
    return Result(target.name, target.storage.url, snapshot.run_id, tables)


def _left(name: str, outcomes: Mapping[TableName, Delivered], stale: int) -> str:
    """Return what a delivery leaves that is stopped."""
    sent = sum(one.status == "delivered" for one in outcomes.values())
    verb = "was" if sent == 1 else "were"
    return f"{sent:,} of {plural(stale, 'table')} {verb} delivered to {name}; the next delivery sends the others."


class _Work:
    """A delivery in progress. The cursor moves with each table."""

    def __init__(
        self,
        snapshot: Snapshot,
        target: Target,
        cursor: StoredCursor,
        plan: Plan,
        form: str,
        stop: Stop,
        observer: Observer,
    ) -> None:
        self._snapshot, self._target, self._form, self._stop = snapshot, target, form, stop
        self._observer = observer
        self._cursor, self._taken = cursor, list(plan.kept)
        self._sending = {name_of(mark): mark for mark in plan.sending}
        self._copier = target.make_copier(snapshot.data)

    def announce(self) -> None:
        """Move the cursor to what was sent and what is still to be sent. Raises Conflict."""
        delivery = Delivery(url=self._target.storage.url, form=self._form, sending=tuple(self._sending.values()))
        taken = sorted(self._taken, key=name_of)
        self._cursor = self._cursor.store.write(self._cursor, self._snapshot.run_id, taken, delivery)

    def send(self, table: Table) -> Delivered:
        """Send one whole table. A table's own error does not stop the others.

        Such errors are a damaged object, an object that is too large, and a key that the receiver refuses.
        """
        self._stop.require_not_asked()
        try:
            keys = self._sent(table)
        except (VerificationFailed, ObjectMissing, ConfigError, StorageDenied) as error:
            self._observer(TableGivenUp(table.name))
            return Delivered(table.name, "failed", error=error)
        self._taken.append(self._sending.pop(table.name))
        self.announce()
        return Delivered(table.name, "delivered", table.entry.rows, keys)

    def _sent(self, table: Table) -> tuple[str, ...]:
        encoding = self._target.encoding(table)
        self._require_sizes(table, encoding)
        self._verify(table)
        keys = tuple(self._keys(table, encoding))
        for one, key in zip(table.objects, keys, strict=True):
            self._put(table, one, key, encoding)
        return keys

    def _verify(self, table: Table) -> None:
        """Verify every object before the first put. A single object is verified while it is sent."""
        if len(table.objects) > 1:
            for one in table.objects:
                with self._meter(table, one, one.stored_bytes // 2, one.stored_bytes) as meter:
                    for block in as_stored(self._snapshot.data, one):
                        self._stop.require_not_asked()
                        meter.add(len(block))

    def _meter(self, table: Table, one: ObjectEntry, size: int, expected: int) -> ChunkMeter:
        """Return a meter. An object that is read twice counts half each time."""
        return ChunkMeter(self._observer, table.name, one.chunk, size, expected)

    def _put(self, table: Table, one: ObjectEntry, key: str, encoding: Encoding) -> None:
        stored = table.entry.encoding or Encoding()
        copier = self._copier if encoding == stored else None
        size = one.stored_bytes - (one.stored_bytes // 2 if len(table.objects) > 1 else 0)
        with self._meter(table, one, size, self._most_bytes(table, one, encoding)) as meter:
            if copier is not None and copier.copied(one.key, one.stored_bytes, one.sha256, key):
                return
            data = self._snapshot.data
            blocks = as_stored(data, one) if encoding == stored else converted(data, one, stored, encoding)
            self._put_blocks(key, blocks, meter)

    def _put_blocks(self, key: str, blocks: Iterable[bytes], meter: ChunkMeter) -> None:
        with Spool() as spool:
            for block in blocks:
                self._stop.require_not_asked()
                spool.write(block)
                meter.add(len(block))
            # The whole object was read and verified. No byte left before that.
            self._target.storage.put(key, spool.body)

    def _keys(self, table: Table, encoding: Encoding) -> Iterator[str]:
        source, mark = self._snapshot.manifest.source, self._sending[table.name]
        settings = self._target.settings
        segment = table_segment(table.name, source.default_schema)
        layout = LAYOUTS[settings.layout]
        database = database_segment(layout, source.database, settings.database_name, table.name)
        assert isinstance(mark.timestamp, str)
        for number in range(len(table.objects)):
            yield data_key(database, segment, mark.timestamp, number, encoding)

    def _require_sizes(self, table: Table, encoding: Encoding) -> None:
        limit = LAYOUTS[self._target.settings.layout].max_object_bytes
        largest = max((self._most_bytes(table, one, encoding) for one in table.objects), default=0)
        if limit is not None and largest > limit:
            raise ConfigError(
                "an object is too large for the receiver",
                on=table.label,
                why=f"{largest:,} bytes; it takes {limit:,}",
                hint="Set a smaller chunk_size. A table that is read whole, such as a view, can't be split.",
            )

    def _most_bytes(self, table: Table, one: ObjectEntry, encoding: Encoding) -> int:
        stored = table.entry.encoding or Encoding()
        if encoding == stored:
            return one.stored_bytes
        return one.raw_bytes if encoding.numbers == stored.numbers else most_bytes(one.raw_bytes)


def _copier(data: Storage, settings: DeliverySettings, options: StorageOptions) -> Copier | None:
    """Return a copier between two places of S3. All places share one endpoint and one set of credentials."""
    if not (data.url.startswith("s3://") and settings.url.startswith("s3://")):
        return None
    from floodmark.storage.s3 import S3Storage  # noqa: PLC0415 - by need: boto3 takes 0.15 s to load

    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    return Copier(data, S3Storage(bucket, prefix.strip("/"), options))
