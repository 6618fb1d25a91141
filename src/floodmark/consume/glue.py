"""Parquet files plus tables in a Glue catalog, as Athena, Spark and Redshift Spectrum read them.

A Glue table points at a small file that lists the table's Parquet files (Hive's symlink format), so one UpdateTable
exchanges columns and files in one step, and readers never see files of a load at work. The order: files, index, lists,
Glue tables, and only then is anything deleted, of what was superseded a day ago. A load that ended in between leaves
each table readable, as it was or as it is now; the next one sees by the Glue table's own parameters that it lags
behind, and moves it on without writing a file anew. Of two loads at once, one does not find the index, or the version
of a Glue table, that it read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from floodmark.consume.glue_catalog import Catalog, CatalogTable
from floodmark.consume.parquet import ParquetPlace, lists
from floodmark.consume.target import Loaded, Source, Staged
from floodmark.consume.types import ColumnType
from floodmark.errors import ConfigError, Conflict, FloodmarkError, StorageUnavailable
from floodmark.events import Observer
from floodmark.model import TableName

_INPUT = "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat"
_OUTPUT = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
_SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
_CHECKSUM, _SHAPE = "floodmark_checksum", "floodmark_shape"
_TABLE, _SCHEMA = "floodmark_table", "floodmark_schema"
_LIST = "files.txt"
_DEFAULT_SCHEMAS = ("public", "main")


class GlueDatabase:
    """A target of `load`. `files` is where the Parquet files go, None for the Glue database's own location."""

    def __init__(self, database: str, files: str | None, observer: Observer) -> None:
        self._database, self._catalog = database, Catalog(database)
        url = files or self._location()
        if not url.startswith("s3://"):
            raise ConfigError("the files of a Glue table lie in S3", on=url, hint="Give --files s3://bucket/prefix.")
        self._parquet = ParquetPlace(url, observer)
        self._tables: dict[str, CatalogTable] = {}
        self._labels: dict[str, str] = {}
        self._behind: frozenset[TableName] = frozenset()
        self.url = f"glue:{database} ({self._parquet.url})"

    def loaded(self) -> Loaded | None:
        """What the index and the catalog hold; a table that lags behind in one of them is loaded, or dropped, again."""
        self._tables = {one.name: one for one in self._catalog.tables()}
        found = self._parquet.loaded()
        if found is None:
            return None
        current = {name: marks for name, marks in found.tables.items() if self._marks(name) == marks}
        left = filter(None, map(self._loaded_into, self._tables.values()))
        self._behind = frozenset({*found.tables, *left} - current.keys())
        return Loaded(found.source, {**current, **dict.fromkeys(self._behind, ("", ""))})

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        return self._parquet.shape(types)

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def stage(self, staged: Staged) -> int:
        self._require_fit(staged)
        return self._parquet.stage(staged)

    def require_droppable(self, name: TableName) -> None:
        """Nothing keeps a table here."""

    def publish(
        self, source: Source, run_id: str, staged: Sequence[Staged], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        """Move the index, then one Glue table after the other. The index is ahead of those that can't be written."""
        changed = [*(one.table.name for one in staged), *drop]
        old_lists = filter(None, map(self._old_list, changed))
        self._parquet.commit(source, run_id, staged, drop, old_lists, self._behind)
        acts = {one.table.name: partial(self._update, one, run_id) for one in staged}
        acts |= {name: partial(self._drop, name) for name in drop}
        tried = {name: _own_trouble(act) for name, act in acts.items()}
        self._parquet.clear(changed)
        return {name: error for name, error in tried.items() if error is not None}

    def abandon(self) -> None:
        self._parquet.abandon()

    def close(self) -> None:
        self._parquet.close()

    def _marks(self, name: TableName) -> tuple[str, str] | None:
        table = self._tables.get(glue_name(name))
        if table is None or not self._is_ours(table, name):
            return None
        return table.parameters.get(_CHECKSUM, ""), table.parameters.get(_SHAPE, "")

    def _is_ours(self, table: CatalogTable, name: TableName) -> bool:
        """Whether it is what was loaded of this table into this place."""
        place = f"{self._parquet.url}/{lists(name)}/"
        return table.parameters.get(_TABLE) == name.label and table.location.startswith(place)

    def _loaded_into(self, table: CatalogTable) -> TableName | None:
        """The table that was loaded into it, None where it is not of this place."""
        schema, label = table.parameters.get(_SCHEMA), table.parameters.get(_TABLE, "")
        if schema is None or not label.startswith(f"{schema}."):
            return None
        name = TableName(schema, label.removeprefix(f"{schema}."))
        return name if self._is_ours(table, name) else None

    def _old_list(self, name: TableName) -> str | None:
        """The list that the Glue table pointed at before this load."""
        table = self._tables.get(glue_name(name))
        if table is None or not self._is_ours(table, name):
            return None
        return table.location.removeprefix(f"{self._parquet.url}/") + _LIST

    def _update(self, staged: Staged, run_id: str) -> None:
        """Write the list of a table's files, and let the catalog's table name it."""
        name = staged.table.name
        folder = f"{lists(name)}/{self._parquet.load_id}"
        files = self._parquet.staged(name).files
        text = "".join(f"{self._parquet.url}/{one.key}\n" for one in files)
        self._parquet.put(f"{folder}/{_LIST}", io.BytesIO(text.encode()))
        table = _table_input(staged, f"{self._parquet.url}/{folder}/", run_id)
        self._catalog.write(table, self._tables.get(table["Name"]))

    def _drop(self, table: TableName) -> None:
        name = glue_name(table)
        there = self._tables.get(name)
        if there is not None and self._is_ours(there, table):
            self._catalog.delete(name)

    def _require_fit(self, staged: Staged) -> None:
        name, label = glue_name(staged.table.name), staged.table.label
        lower = [column.name.lower() for column in staged.table.columns]
        if len(set(lower)) < len(lower):
            raise ConfigError("a table can't be in Glue", on=label, why="two columns differ only in case")
        twin = self._labels.setdefault(name, label)
        if twin != label:
            hint = "Load one of them with --table."
            raise ConfigError("two tables have one name in Glue", on=name, why=f"{twin} and {label}", hint=hint)
        there = self._tables.get(name)
        if there is not None and not self._is_ours(there, staged.table.name):
            raise ConfigError(
                "there is a Glue table of this name already",
                on=f"{self._database}.{name}",
                why=f"it is not what was loaded of {label} into {self._parquet.url}, and is not replaced",
                hint="Rename it or delete it from the catalog, or load into another Glue database.",
            )

    def _location(self) -> str:
        found = self._catalog.location()
        if found is None:
            raise ConfigError(
                "there is no place for the files",
                on=f"Glue database {self._database}",
                why="it has no location of its own",
                hint="Give --files s3://bucket/prefix.",
            )
        return found


def _own_trouble(act: Callable[[], None]) -> FloodmarkError | None:
    """What keeps one Glue table from being written. What is not its own is raised: another load's success, a catalog
    that can't be reached."""
    try:
        act()
    except (Conflict, StorageUnavailable):
        raise
    except FloodmarkError as error:
        return error
    return None


def glue_name(name: TableName) -> str:
    """A table's name in the catalog: lower case, and with its schema where that is not the default one."""
    whole = name.name if name.schema in _DEFAULT_SCHEMAS else f"{name.schema}_{name.name}"
    return re.sub(r"[^a-z0-9_]", "_", whole.lower())


def _table_input(staged: Staged, location: str, run_id: str) -> dict[str, Any]:
    table = staged.table
    columns = [
        {"Name": column.name.lower(), "Type": kind.glue, "Comment": column.type[:255]}
        for column, kind in zip(table.columns, staged.types, strict=True)
    ]
    return {
        "Name": glue_name(table.name),
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {
            "EXTERNAL": "TRUE",
            "classification": "parquet",
            _TABLE: table.label,
            _SCHEMA: table.name.schema,
            _CHECKSUM: table.entry.checksum or "",
            _SHAPE: staged.shape,
            "floodmark_run_id": run_id,
        },
        "StorageDescriptor": {
            "Columns": columns,
            "Location": location,
            "InputFormat": _INPUT,
            "OutputFormat": _OUTPUT,
            "SerdeInfo": {"SerializationLibrary": _SERDE},
        },
    }
