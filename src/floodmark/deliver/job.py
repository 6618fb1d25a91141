"""Delivery of changed tables to a landing zone, each as one complete set of files. `delivery_plan` chooses the tables.

For each table the order is fixed: verify every object, then put all objects, then move the cursor. The target only
receives puts. Before the first put, the cursor names every table to send and the timestamp in its keys. So a delivery
that died midway is repeated with the same bytes under the same keys. No receiver keeps half a table under one
timestamp, unless the table changed again meanwhile. Then it is sent whole under a later timestamp.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from floodmark.config import DeliverySettings
from floodmark.deliver.objects import (
    Places,
    Sending,
    make_copier,
    put_away,
    put_object,
    target_options,
    verify_away,
    verify_object,
)
from floodmark.deliver.plan import Plan, name_of, planned, require_same_target
from floodmark.engine.base import Away, Engine, TaskStopped, WorkerWatch
from floodmark.engine.local import LocalThreads
from floodmark.errors import ConfigError, FloodmarkError, ObjectMissing, Stopped, StorageDenied, VerificationFailed
from floodmark.events import Observer, StepStarted, TableGivenUp, ignore_event
from floodmark.layout import LAYOUTS, data_key, database_segment, table_segment
from floodmark.model import Encoding, TableName
from floodmark.reader.cursor import StoredCursor
from floodmark.reader.reader import Snapshot, Table
from floodmark.state.consumers import Delivery
from floodmark.stop import NEVER, Stop, stopped_leaving
from floodmark.storage import open_storage
from floodmark.storage.base import Storage
from floodmark.storage.retry import RetryingStorage
from floodmark.wording import plural

Status = Literal["delivered", "unchanged", "failed", "gone"]
# Each holds an object in memory up to a limit: see `Spool`.
SENDERS = 4
_THREADS = LocalThreads(SENDERS)
_NO_LETTER = re.compile(r"[^A-Za-z0-9_]+")


class Target(Struct, frozen=True):
    """The place of a delivery. `name` is the cursor's name."""

    name: str
    settings: DeliverySettings
    storage: Storage

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
    storage = RetryingStorage(open_storage(settings.url, target_options(settings)), observer)
    name = settings.name or _NO_LETTER.sub("-", storage.url).strip("-")[-100:]
    return Target(name, settings, storage)


def deliver(
    snapshot: Snapshot,
    target: Target,
    cursor: StoredCursor,
    only: Collection[TableName] | None,
    tell: Callable[[Delivered], None],
    stop: Stop = NEVER,
    observer: Observer = ignore_event,
    engine: Engine = _THREADS,
) -> Result:
    """Send what the target lacks. One table's error goes into the result. `only` names the tables to send, None all.

    Tables are sent one after another. `engine` sends the objects of a table.

    Raises ConfigError, Conflict if two deliveries share a cursor, StorageError, Stopped.
    """
    require_same_target(cursor, target.name, target.storage.url)
    form = target.form(snapshot.manifest.source.database)
    plan = planned(snapshot, cursor, form, target.settings.resend_after_days, only)
    work = _Work(snapshot, target, cursor, plan, form, stop, observer, engine)
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
        engine: Engine,
    ) -> None:
        self._snapshot, self._target, self._form, self._stop = snapshot, target, form, stop
        self._observer, self._engine = observer, engine
        self._cursor, self._taken = cursor, list(plan.kept)
        self._sending = {name_of(mark): mark for mark in plan.sending}
        self._copier = make_copier(snapshot.data, target.settings)
        self._places = Places(snapshot.data.url, target.settings)

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
        sendings = self._sendings(table)
        self._require_sizes(table, sendings)
        if len(sendings) > 1:  # a single object is verified while it is sent
            self._each(sendings, partial(verify_object, self._snapshot.data), verify_away)
        put = partial(put_object, self._snapshot.data, self._target.storage, self._copier)
        self._each(sendings, put, put_away if self._places.writable_anywhere else None)
        return tuple(one.key for one in sendings)

    def _each(
        self,
        sendings: Sequence[Sending],
        act: Callable[[Sending, WorkerWatch], None],
        act_away: Callable[[Places, Sending, WorkerWatch], None] | None,
    ) -> None:
        """Do this with all objects of a table, in any order. Raises the first error, after the tasks at work ended."""
        watch, stop = WorkerWatch(self._observer, self._stop), self._stop
        away = None
        if act_away is not None:
            away = Away[Sending](act_away, self._places, lambda sending: sending, stop.is_set)
        for _, outcome in self._engine.run_tasks(lambda sending: act(sending, watch), sendings, away):
            if isinstance(outcome, TaskStopped | Stopped):
                raise Stopped(stop.number)
            if isinstance(outcome, BaseException):
                raise outcome

    def _sendings(self, table: Table) -> list[Sending]:
        source, mark = self._snapshot.manifest.source, self._sending[table.name]
        settings, encoding = self._target.settings, self._target.encoding(table)
        segment = table_segment(table.name, source.default_schema)
        layout = LAYOUTS[settings.layout]
        database = database_segment(layout, source.database, settings.database_name, table.name)
        assert isinstance(mark.timestamp, str)
        stored, twice = table.entry.encoding or Encoding(), len(table.objects) > 1
        keys = (data_key(database, segment, mark.timestamp, n, encoding) for n in range(len(table.objects)))
        return [
            Sending(table.name, one, key, stored, encoding, twice) for one, key in zip(table.objects, keys, strict=True)
        ]

    def _require_sizes(self, table: Table, sendings: Sequence[Sending]) -> None:
        limit = LAYOUTS[self._target.settings.layout].max_object_bytes
        largest = max((one.most_bytes for one in sendings), default=0)
        if limit is not None and largest > limit:
            raise ConfigError(
                "an object is too large for the receiver",
                on=table.label,
                why=f"{largest:,} bytes; it takes {limit:,}",
                hint="Set a smaller chunk_size. A table that is read whole, such as a view, can't be split.",
            )
