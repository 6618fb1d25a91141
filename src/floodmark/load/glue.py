"""Parquet files and tables in a Glue catalog, as Athena, Spark and Redshift Spectrum read them.

A Glue table points at a small file that lists the table's Parquet files (Hive's symlink format). So one UpdateTable
exchanges columns and files in one step, and readers never see the files of an unfinished load. The order is: files,
index, lists, Glue tables. Only after that, files that were superseded a day ago are deleted. If a load ends in between,
each table stays readable in its old or new version. The next load compares the Glue table's own parameters, detects
that it lags behind, and updates it without writing a file again. If two loads run at once, one of them finds that the
index, or the version of a Glue table, changed since it read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from floodmark.errors import ConfigError, FloodmarkError
from floodmark.events import Observer
from floodmark.layout import catalog_name, default_schema
from floodmark.load.comments import column_comments, comments_digest, table_comment
from floodmark.load.glue_catalog import CatalogTable, GlueCatalog
from floodmark.load.parquet import ParquetPlace
from floodmark.load.parquet_files import LIST, lists
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
from floodmark.storage.probe import body_of

_INPUT = "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat"
_OUTPUT = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
_SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
_CHECKSUM, _SHAPE = "floodmark_checksum", "floodmark_shape"
_TABLE, _SCHEMA = "floodmark_table", "floodmark_schema"
_RUN, _COMMENTS = "floodmark_run_id", "floodmark_comments"
# Characters that Glue takes in a comment, which is one line, and in a description.
_MOST_COMMENT, _MOST_DESCRIPTION = 255, 2048


class GlueDatabase:
    """A target of `load`. `files` is the place of the Parquet files, or None for the Glue database's own location."""

    def __init__(self, database: str, files: str | None, observer: Observer) -> None:
        self._database, self._catalog = database, GlueCatalog(database)
        url = files or self._location()
        if not url.startswith("s3://"):
            raise ConfigError(
                "can't place the files of a Glue table",
                on=url,
                why="it is not in S3",
                hint="Give --files s3://bucket/prefix.",
            )
        self._parquet = ParquetPlace(url, observer)
        self._tables: dict[str, CatalogTable] = {}
        self._default_schema = ""
        self._named: dict[str, TableName] = {}
        self._vacated: set[str] = set()
        self._behind: frozenset[TableName] = frozenset()
        self.url = f"glue:{database} ({self._parquet.url})"

    def loaded(self, source: LoadSource) -> TargetContent | None:
        """Return what the index and the catalog hold.

        A table that lags behind in one of them is loaded, or dropped, again.
        """
        self._tables = {one.name: one for one in self._catalog.tables()}
        self._default_schema = default_schema(source.dialect, source.database)
        found = self._parquet.loaded(source)
        if found is None:
            return None
        current = {name: marks for name, marks in found.tables.items() if self._recorded_state(name) == marks}
        left = filter(None, map(self._loaded_into, self._tables.values()))
        self._behind = frozenset({*found.tables, *left} - current.keys())
        return TargetContent(found.source, {**current, **dict.fromkeys(self._behind, ("", ""))})

    def shape(self, types: Sequence[ColumnType]) -> tuple[str, ...]:
        return self._parquet.shape(types)

    def prepare(self) -> None:
        """Do nothing: this target needs no preparation."""

    def stage(self, staged: StagedTable) -> int:
        name = staged.table.name
        require_distinct_columns(staged, "Glue")
        self._require_free(name, staged.snapshot, self._vacated)
        twin = self._named.setdefault(self._name(name), name)
        if twin != name:
            raise same_name_error("Glue", self._name(name), twin, name, LEAVE_OUT)
        rows = self._parquet.stage(staged)
        self._vacated |= {one.name for one in self._misnamed(name)}
        return rows

    def require_droppable(self, name: TableName) -> None:
        """Do nothing: a table can always be dropped here."""

    def publish(
        self, source: LoadSource, run_id: str, staged: Sequence[StagedTable], drop: Sequence[TableName]
    ) -> Mapping[TableName, FloodmarkError]:
        """Move the index, then update each Glue table. The index stays ahead of tables that can't be written."""
        changed = [*(one.table.name for one in staged), *drop]
        old_lists = (self._list_of(table) for name in changed for table in self._loaded_versions(name))
        self._parquet.commit(source, run_id, staged, drop, old_lists, self._behind)
        acts = {one.table.name: partial(self._update, one, run_id) for one in staged}
        acts |= {name: partial(self._drop, name) for name in drop}
        tried = {name: own_trouble(act) for name, act in acts.items()}
        self._parquet.clear(changed)
        return {name: error for name, error in tried.items() if error is not None}

    def outdated_comments(self, tables: Sequence[StagedTable]) -> Sequence[StagedTable]:
        return [
            one
            for one in tables
            if (current := self._tables.get(self._name(one.table.name))) is not None
            and current.parameters.get(_COMMENTS, "") != comments_digest(one.table)
        ]

    def write_comments(self, staged: StagedTable) -> None:
        """Replace the catalog's table by one with the same files."""
        current = self._tables[self._name(staged.table.name)]
        run_id = current.parameters.get(_RUN, "")
        self._catalog.write(_table_input(current.name, staged, current.location, run_id), current)

    def abandon(self) -> None:
        self._parquet.abandon()

    def close(self) -> None:
        self._parquet.close()

    def _name(self, name: TableName) -> str:
        return catalog_name(name, self._default_schema)

    def _recorded_state(self, name: TableName) -> tuple[str, str] | None:
        """Return the checksum and shape in the catalog, or None if the table is absent or has another name."""
        ours = self._loaded_versions(name)
        if [one.name for one in ours] != [self._name(name)]:
            return None
        return ours[0].parameters.get(_CHECKSUM, ""), ours[0].parameters.get(_SHAPE, "")

    def _loaded_versions(self, name: TableName) -> list[CatalogTable]:
        """Return the Glue table that was loaded from a table, and one that was loaded under an earlier name."""
        current = self._tables.get(self._name(name))
        own = [current] if current is not None and self._is_ours(current, name) else []
        return [*own, *self._misnamed(name)]

    def _misnamed(self, name: TableName) -> list[CatalogTable]:
        """Return the table's Glue table under a name without schema, if it should have the schema now.

        Earlier versions left out the schema of public and main tables for every dialect. The same happens after a
        database of another dialect was adopted.
        """
        current = self._tables.get(catalog_name(name, name.schema)) if name.schema in ("public", "main") else None
        wrong = current is not None and current.name != self._name(name) and self._is_ours(current, name)
        return [current] if current is not None and wrong else []

    def _is_ours(self, table: CatalogTable, name: TableName) -> bool:
        """Return true if the Glue table was loaded from this table into this place."""
        place = f"{self._parquet.url}/{lists(name)}/"
        return table.parameters.get(_TABLE) == name.label and table.location.startswith(place)

    def _loaded_into(self, table: CatalogTable) -> TableName | None:
        """Return the table that was loaded into the Glue table, or None if it does not belong to this place."""
        schema, label = table.parameters.get(_SCHEMA), table.parameters.get(_TABLE, "")
        if schema is None or not label.startswith(f"{schema}."):
            return None
        name = TableName(schema, label.removeprefix(f"{schema}."))
        return name if self._is_ours(table, name) else None

    def _list_of(self, table: CatalogTable) -> str:
        """Return the key of the file list that one of our Glue tables points at."""
        return table.location.removeprefix(f"{self._parquet.url}/") + LIST

    def _update(self, staged: StagedTable, run_id: str) -> None:
        """Write the list of a table's files, and point the catalog's table at it."""
        name, glue = staged.table.name, self._name(staged.table.name)
        self._require_free(name, staged.snapshot)
        folder = f"{lists(name)}/{self._parquet.load_id}"
        files = self._parquet.staged(name).files
        text = "".join(f"{self._parquet.url}/{one.key}\n" for one in files)
        self._parquet.put(f"{folder}/{LIST}", body_of(text.encode()))
        table = _table_input(glue, staged, f"{self._parquet.url}/{folder}/", run_id)
        self._catalog.write(table, self._tables.get(glue))
        self._delete(self._misnamed(name))

    def _drop(self, name: TableName) -> None:
        self._delete(self._loaded_versions(name))

    def _delete(self, tables: Iterable[CatalogTable]) -> None:
        for one in tables:
            self._catalog.delete(one.name)
            del self._tables[one.name]

    def _require_free(
        self, name: TableName, snapshot: Collection[TableName], vacated: Collection[str] = frozenset()
    ) -> None:
        """Require that the name in the catalog is free, the table's own, or `vacated` by another table."""
        glue = self._name(name)
        current = self._tables.get(glue)
        if current is None or glue in vacated or self._is_ours(current, name):
            return
        holder = self._loaded_into(current)
        if holder is not None:
            gone = "Load again with --drop, which drops the missing tables."
            raise same_name_error("Glue", glue, holder, name, LEAVE_OUT if holder in snapshot else gone)
        raise ConfigError(
            "can't replace a Glue table",
            on=f"{self._database}.{glue}",
            why=f"Floodmark did not load it from {name.label} into {self._parquet.url}",
            hint="Rename it or delete it from the catalog, or load into another Glue database. Or leave the table out "
            "with --exclude.",
        )

    def _location(self) -> str:
        found = self._catalog.location()
        if found is None:
            raise ConfigError(
                "can't place the files of a Glue table",
                on=f"Glue database {self._database}",
                why="the database has no location",
                hint="Give --files s3://bucket/prefix.",
            )
        return found


def _one_line(text: str) -> str:
    """Return a text without line breaks and control characters, which Glue refuses."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _table_input(name: str, staged: StagedTable, location: str, run_id: str) -> dict[str, Any]:
    table = staged.table
    columns = [
        {"Name": column.name.lower(), "Type": kind.glue, "Comment": _one_line(comment or column.type)[:_MOST_COMMENT]}
        for column, kind, comment in zip(table.columns, staged.types, column_comments(table), strict=True)
    ]
    description = _one_line(table_comment(table))[:_MOST_DESCRIPTION]
    return {
        "Name": name,
        **({"Description": description} if description else {}),
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {
            "EXTERNAL": "TRUE",
            "classification": "parquet",
            _TABLE: table.label,
            _SCHEMA: table.name.schema,
            _CHECKSUM: table.entry.checksum or "",
            _SHAPE: staged.shape,
            _RUN: run_id,
            _COMMENTS: comments_digest(table),
        },
        "StorageDescriptor": {
            "Columns": columns,
            "Location": location,
            "InputFormat": _INPUT,
            "OutputFormat": _OUTPUT,
            "SerdeInfo": {"SerializationLibrary": _SERDE},
        },
    }
