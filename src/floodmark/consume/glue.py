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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from floodmark.consume.parquet import ParquetPlace, lists
from floodmark.consume.target import Loaded, Source, Staged
from floodmark.consume.types import ColumnType
from floodmark.errors import ConfigError, Conflict, FloodmarkError, StorageDenied, StorageError
from floodmark.events import Observer
from floodmark.model import TableName

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient

_INPUT = "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat"
_OUTPUT = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
_SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
_CHECKSUM, _SHAPE = "floodmark_checksum", "floodmark_shape"
_TABLE, _SCHEMA = "floodmark_table", "floodmark_schema"
_LIST = "files.txt"
_DEFAULT_SCHEMAS = ("public", "main")
_DENIED = ("AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException", "InvalidClientTokenId")


class GlueTable(Struct, frozen=True):
    """What the catalog says of a table: Floodmark's own marks on it, its place, and the version to replace."""

    name: str
    marks: dict[str, str]
    version: str | None
    location: str

    @property
    def table(self) -> TableName | None:
        """The table that Floodmark loaded into it."""
        schema, label = self.marks.get(_SCHEMA), self.marks.get(_TABLE, "")
        if schema is None or not label.startswith(f"{schema}."):
            return None
        return TableName(schema, label.removeprefix(f"{schema}."))


class GlueDatabase:
    """A target of `load`. `files` is where the Parquet files go, None for the Glue database's own location."""

    def __init__(self, database: str, files: str | None, observer: Observer) -> None:
        self._database = database
        with self._translated("connect to Glue", database):
            self._glue: GlueClient = boto3.client("glue")
        url = files or self._location()
        if not url.startswith("s3://"):
            raise ConfigError("the files of a Glue table lie in S3", on=url, hint="Give --files s3://bucket/prefix.")
        self._parquet = ParquetPlace(url, observer)
        self._tables: dict[str, GlueTable] = {}
        self._labels: dict[str, str] = {}
        self._behind: frozenset[TableName] = frozenset()
        self.url = f"glue:{database} ({self._parquet.url})"

    def loaded(self) -> Loaded | None:
        """What the index and the catalog hold; a table that lags behind in one of them is loaded, or dropped, again."""
        self._tables = {one.name: one for one in self._read_tables()}
        found = self._parquet.loaded()
        if found is None:
            return None
        current = {name: marks for name, marks in found.tables.items() if self._marks(name) == marks}
        left = (one.table for one in self._tables.values() if one.table is not None and self._is_ours(one, one.table))
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

    def publish(self, source: Source, run_id: str, staged: Sequence[Staged], drop: Sequence[TableName]) -> None:
        changed = [*(one.table.name for one in staged), *drop]
        old_lists = filter(None, map(self._old_list, changed))
        self._parquet.commit(source, run_id, staged, drop, old_lists, self._behind)
        for one in staged:
            self._update(one, run_id)
        for table in drop:
            self._drop(table)
        self._parquet.clear(changed)

    def abandon(self) -> None:
        self._parquet.abandon()

    def close(self) -> None:
        self._parquet.close()

    def _marks(self, name: TableName) -> tuple[str, str] | None:
        table = self._tables.get(glue_name(name))
        if table is None or not self._is_ours(table, name):
            return None
        return table.marks.get(_CHECKSUM, ""), table.marks.get(_SHAPE, "")

    def _is_ours(self, table: GlueTable, name: TableName) -> bool:
        """Whether it is what was loaded of this table into this place."""
        return table.marks.get(_TABLE) == name.label and table.location.startswith(
            f"{self._parquet.url}/{lists(name)}/"
        )

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
        with self._translated("write a Glue table", table["Name"]):
            try:
                self._write(table)
            except (ClientError, BotoCoreError):
                # boto3 tries again by itself; what is refused then may be what the first try has done.
                if not self._is_written(table):
                    raise

    def _write(self, table: dict[str, Any]) -> None:
        old = self._tables.get(table["Name"])
        if old is None:
            self._glue.create_table(DatabaseName=self._database, TableInput=table)  # type: ignore[arg-type]
        else:
            version = {} if old.version is None else {"VersionId": old.version}
            self._glue.update_table(DatabaseName=self._database, TableInput=table, **version)  # type: ignore[arg-type]

    def _is_written(self, table: dict[str, Any]) -> bool:
        """Whether the catalog has just this: no other load has a list at its location."""
        place = table["StorageDescriptor"]["Location"]
        return any(one.name == table["Name"] and one.location == place for one in self._read_tables())

    def _drop(self, table: TableName) -> None:
        name, gone = glue_name(table), self._glue.exceptions.EntityNotFoundException
        there = self._tables.get(name)
        if there is None or not self._is_ours(there, table):
            return
        with self._translated("drop a Glue table", name), suppress(gone):
            self._glue.delete_table(DatabaseName=self._database, Name=name)

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

    def _read_tables(self) -> Iterator[GlueTable]:
        with self._translated("read the tables of a Glue database", self._database):
            for page in self._glue.get_paginator("get_tables").paginate(DatabaseName=self._database):
                for one in page["TableList"]:
                    location = one.get("StorageDescriptor", {}).get("Location", "")
                    yield GlueTable(one["Name"], dict(one.get("Parameters", {})), one.get("VersionId"), location)

    def _location(self) -> str:
        with self._translated("read a Glue database", self._database):
            found = self._glue.get_database(Name=self._database)["Database"].get("LocationUri")
        if not found:
            raise ConfigError(
                "there is no place for the files",
                on=f"Glue database {self._database}",
                why="it has no location of its own",
                hint="Give --files s3://bucket/prefix.",
            )
        return found

    @contextmanager
    def _translated(self, what: str, on: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise _from_answer(error, what, on) from None
        except BotoCoreError as error:
            hint = "boto3 needs credentials and a region; AWS_ENDPOINT_URL_GLUE names another Glue than Amazon's."
            raise StorageError(what, on=on, why=type(error).__name__, hint=hint) from None


def glue_name(name: TableName) -> str:
    """A table's name in the catalog: lower case, and with its schema where that is not the default one."""
    whole = name.name if name.schema in _DEFAULT_SCHEMAS else f"{name.schema}_{name.name}"
    return re.sub(r"[^a-z0-9_]", "_", whole.lower())


def _from_answer(error: ClientError, what: str, on: str) -> FloodmarkError:
    code = str(error.response.get("Error", {}).get("Code", "no code"))
    if code == "EntityNotFoundException":
        hint = "Make the Glue database first; Floodmark makes only the tables in it."
        return ConfigError(what, on=on, why="there is no such Glue database or table", hint=hint)
    if code in ("ConcurrentModificationException", "AlreadyExistsException"):
        hint = "What was loaded there stands. Load again."
        return Conflict(what, on=on, why="someone else, another load say, wrote it meanwhile", hint=hint)
    if code in _DENIED:
        hint = "The role needs glue:GetDatabase, GetTables, CreateTable, UpdateTable and DeleteTable."
        return StorageDenied(what, on=on, why=code, hint=hint)
    return StorageError(what, on=on, why=f"Glue gave {code}")


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
