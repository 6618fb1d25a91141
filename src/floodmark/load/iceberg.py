"""Tables in an Iceberg catalog: one data file per chunk, one Iceberg snapshot per table and load.

Each table is committed by itself, because Iceberg has no transaction over several tables. The table's own properties
record what was loaded, in the same commit as the files. So a load that ends between two tables leaves each one whole,
in its old or its new version, and the next load commits the others. A table that someone else changed since is not what
its record says. It is refused until it is replaced with `--full`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from pyiceberg.catalog import Catalog  # optional extra
from pyiceberg.exceptions import (  # optional extra
    NoSuchIcebergTableError,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    NoSuchTableError,
)
from pyiceberg.table import Table  # optional extra
from pyiceberg.typedef import Identifier  # optional extra

from floodmark.errors import ConfigError, FloodmarkError, StateUnreadable
from floodmark.events import Observer, Warned
from floodmark.layout import catalog_name, default_schema, timestamp_text
from floodmark.load.iceberg_catalog import catalog_label, open_catalog, open_namespace, translated
from floodmark.load.iceberg_expiry import expire
from floodmark.load.iceberg_record import LoadedTable, require_as_left, wanted_comments
from floodmark.load.iceberg_schema import iceberg_type
from floodmark.load.iceberg_table import TableChange
from floodmark.load.target import (
    LEAVE_OUT,
    LoadSource,
    StagedTable,
    TargetContent,
    own_trouble,
    require_distinct_columns,
    same_name_error,
)
from floodmark.model import TableName
from floodmark.reader.types import ColumnType

# The tables whose metadata is read at the same time. Each is a request or two.
_READERS = 8


class IcebergNamespace:
    """A target of `load`: a namespace of a catalog. See `open_catalog` for `catalog` and `warehouse`.

    If `keep` is a number, the older snapshots of each table that is loaded expire: see `iceberg_expiry`.
    """

    def __init__(
        self,
        namespace: str,
        observer: Observer,
        *,
        catalog: str | None = None,
        warehouse: str | None = None,
        keep: int | None = None,
    ) -> None:
        self._observer, self._keep = observer, keep
        self._catalog: Catalog = open_catalog(catalog, warehouse)
        self._namespace = open_namespace(self._catalog, namespace)
        self._load = f"{timestamp_text(datetime.now(UTC))}-{secrets.token_hex(3)}"
        self._default_schema = ""
        self._foreign: dict[str, Table | None] = {}
        self._broken: dict[str, StateUnreadable] = {}
        self._tables: dict[str, LoadedTable] = {}
        self._changes: dict[TableName, TableChange] = {}
        self._named: dict[str, TableName] = {}
        self.url = f"iceberg:{namespace} ({catalog_label(self._catalog)})"

    @property
    def warehouse(self) -> str | None:
        """Return the place of new tables, if the catalog's properties name it."""
        return self._catalog.properties.get("warehouse")

    def loaded(self, source: LoadSource) -> TargetContent | None:
        """Return what the tables' own records say. A table that is not as its record says has empty marks."""
        self._default_schema = default_schema(source.dialect, source.database)
        with translated("can't read the namespace", self.url):
            names = self._listed()
        with ThreadPoolExecutor(_READERS) as executor:
            tables = list(executor.map(self._read, names))
        for name, table in zip(names, tables, strict=True):
            if table is None or not LoadedTable.is_ours(table):
                self._foreign[name] = table
            else:
                self._tables[name] = LoadedTable(table)
        if not self._tables:
            return None
        held: dict[TableName, tuple[str, str]] = {}
        for name, one in self._tables.items():
            held[one.name] = one.marks if name == self._name(one.name) else ("", "")
        others = [one.source for one in self._tables.values() if one.source != source]
        return TargetContent(others[0] if others else source, held)

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        return tuple(str(iceberg_type(kind)) for kind in types)

    def prepare(self) -> None:
        """Create the namespace if it does not exist."""
        with translated("can't create the namespace", self.url):
            self._catalog.create_namespace_if_not_exists(self._namespace)

    def stage(self, staged: StagedTable) -> int:
        name = staged.table.name
        there = self._name(name)
        _require_columns(staged)
        self._require_free(name, staged.snapshot)
        current = self._tables.get(there)
        if current is not None:
            require_as_left(current, staged)
        self._named[there] = name
        with translated("can't write to the table", self._label(there)):
            try:
                change = TableChange(self._catalog, self._identifier(there), current, staged, self._load)
            except ValueError:
                if current is not None:
                    raise
                raise self._no_place(there) from None
            try:
                rows = change.stage()
            except BaseException:
                change.remove_written()
                raise
        self._changes[name] = change
        return rows

    def require_droppable(self, name: TableName) -> None:
        """Do nothing: a table can always be dropped here."""

    def publish(
        self, source: LoadSource, run_id: str, staged: Sequence[StagedTable], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        """Commit table by table. If another writer was first at one of them, the tables before it stay published."""
        acts: dict[TableName, Callable[[], None]] = {}
        acts |= {one.table.name: partial(self._commit, one.table.name, source, run_id) for one in staged}
        acts |= {name: partial(self._drop, name) for name in drop}
        try:
            failed = {name: own_trouble(act) for name, act in self._with_histories(acts).items()}
            self._adopt(source, acts.keys())
        except FloodmarkError:
            self.abandon()
            raise
        for one in staged:
            if failed[one.table.name] is None:
                self._expire(self._name(one.table.name))
        return {name: error for name, error in failed.items() if error is not None}

    def outdated_comments(self, tables: Sequence[StagedTable]) -> Sequence[StagedTable]:
        return [
            one
            for one in tables
            if (current := self._tables.get(self._name(one.table.name))) is not None
            and current.comments != wanted_comments(one)
        ]

    def write_comments(self, staged: StagedTable) -> None:
        """Commit a table's comments. That makes no snapshot."""
        there = self._name(staged.table.name)
        with translated("can't comment on the table", self._label(there)):
            self._tables[there].describe(staged)

    def abandon(self) -> None:
        """Delete the files of tables that were not committed. A failure leaves files that no snapshot names."""
        for change in self._changes.values():
            change.remove_written()

    def close(self) -> None:
        with suppress(Exception):  # nothing depends on a connection that is closed twice
            self._catalog.close()

    def _with_histories(self, acts: Mapping[TableName, Callable[[], None]]) -> Mapping[TableName, Callable[[], None]]:
        """Return what publishes or drops each table, and also brings its history up to date. This target has none."""
        return acts

    def _no_place(self, there: str) -> ConfigError:
        why = "neither the catalog nor the namespace has a place for it"
        return ConfigError("can't create the table", on=self._label(there), why=why, hint="Give --warehouse URL.")

    def _listed(self) -> list[str]:
        try:
            return sorted(found[-1] for found in self._catalog.list_tables(self._namespace))
        except NoSuchNamespaceError:
            return []

    def _read(self, name: str) -> Table | None:
        """Return a table, or None if it is no Iceberg table, or a damaged one: that one stops no other table."""
        try:
            with (
                translated("can't read the table", self._label(name)),
                suppress(NoSuchIcebergTableError, NoSuchPropertyException),
            ):
                return self._catalog.load_table(self._identifier(name))
        except StateUnreadable as error:
            self._broken[name] = error
        return None

    def _commit(self, name: TableName, source: LoadSource, run_id: str) -> None:
        change, there = self._changes[name], self._name(name)
        with translated("can't publish the table", self._label(there)):
            try:
                change.commit(source, run_id)
            except Exception:
                change.remove_written()
                raise
        for old in self._versions(name):
            if old != there:
                self._purge(old)

    def _drop(self, name: TableName) -> None:
        for there in self._versions(name):
            self._purge(there)

    def _purge(self, there: str) -> None:
        """Drop a table from the catalog, and delete its files unless others may use them too."""
        shared = self._shares_files(there, self._tables[there].table)
        drop = self._catalog.drop_table if shared else self._catalog.purge_table
        with translated("can't drop the table", self._label(there)), suppress(NoSuchTableError):
            drop(self._identifier(there))

    def _expire(self, there: str) -> None:
        """Expire a table's old snapshots. The load is complete before this step, so a failure is only a warning."""
        if self._keep is None:
            return
        try:
            with translated("old snapshots or unused files remain", self._label(there)):
                table = self._catalog.load_table(self._identifier(there))
                if not self._shares_files(there, table):
                    expire(table, self._keep)
        except FloodmarkError as error:
            self._observer(Warned(error.sentence))

    def _shares_files(self, there: str, table: Table) -> bool:
        """Return true if another table can use this one's files: a copy in the namespace, or one that is announced."""
        announced = table.metadata.properties.get("gc.enabled", "true").lower() == "false"
        others = [one for name, one in self._foreign.items() if one is not None and name != there]
        return announced or any(one.metadata.table_uuid == table.metadata.table_uuid for one in others)

    def _adopt(self, source: LoadSource, done: Collection[TableName]) -> None:
        for there, one in self._tables.items():
            if one.source != source and one.name not in done:
                with translated("can't adopt the table", self._label(there)):
                    one.adopt(source, self._catalog)

    def _versions(self, name: TableName) -> list[str]:
        """Return the names in the catalog that hold a table: usually one, two after another default schema."""
        return [there for there, one in self._tables.items() if one.name == name]

    def _require_free(self, name: TableName, snapshot: Collection[TableName]) -> None:
        """Require that the name in the catalog is free, or the table's own."""
        there = self._name(name)
        current = self._tables.get(there)
        holder = self._named.get(there) or (None if current is None else current.name)
        if holder is not None and holder != name:
            gone = "Load again with --drop, which drops the missing tables."
            raise same_name_error("Iceberg", there, holder, name, LEAVE_OUT if holder in snapshot else gone)
        if there in self._broken:
            raise self._broken[there]
        if there in self._foreign:
            raise ConfigError(
                "can't replace a table",
                on=self._label(there),
                why="Floodmark did not load it",
                hint="Rename it or drop it from the catalog, or load into another namespace. Or leave the table out "
                "with --exclude.",
            )

    def _name(self, name: TableName) -> str:
        return catalog_name(name, self._default_schema)

    def _identifier(self, there: str) -> Identifier:
        return (*self._namespace, there)

    def _label(self, there: str) -> str:
        return ".".join(self._identifier(there))


def _require_columns(staged: StagedTable) -> None:
    require_distinct_columns(staged, "Iceberg")
    if not staged.table.columns:
        raise ConfigError(
            "can't load a table into Iceberg", on=staged.table.label, why="it has no columns", hint=LEAVE_OUT
        )
