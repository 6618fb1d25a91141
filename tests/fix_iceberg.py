"""An Iceberg warehouse of a test's own, as a reader with PyIceberg finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.io.pyarrow import parquet_file_to_data_file, schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import snapshot
from pyiceberg.table.update.snapshot import _OverwriteFiles

NAMESPACE = "cases"
INTO = f"iceberg:{NAMESPACE}"


class Warehouse:
    """A folder with a SQLite catalog in it. `options` are those of `floodmark load`."""

    def __init__(self, folder: Path, place: str | None = None, **properties: str) -> None:
        self.folder, self.file = folder, folder / "catalog.db"
        folder.mkdir(exist_ok=True)
        self.place = place or str(folder)
        self.options = ("--catalog", f"sqlite:///{self.file}", "--warehouse", self.place)
        self._properties = properties

    @property
    def catalog(self) -> Catalog:
        return load_catalog(
            "default", type="sql", uri=f"sqlite:///{self.file}", warehouse=self.place, **self._properties
        )

    def table(self, name: str) -> Table:
        return self.catalog.load_table((NAMESPACE, name))

    def names(self) -> list[str]:
        return sorted(name[-1] for name in self.catalog.list_tables(NAMESPACE))

    def rows(self, name: str, snapshot_id: int | None = None) -> list[tuple[Any, ...]]:
        found = self.table(name).scan(snapshot_id=snapshot_id).to_arrow().to_pylist()
        return sorted((tuple(row.values()) for row in found), key=repr)

    def files(self, name: str) -> set[str]:
        """The data files of the current snapshot."""
        return {task.file.file_path for task in self.table(name).scan().plan_files()}

    def compact(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace a table's data files by one, as the maintenance of another engine does. PyIceberg itself can't."""
        table = self.table(name)
        path = f"{table.location()}/data/compacted.parquet"
        schema = schema_to_pyarrow(table.schema(), include_field_ids=True)
        pq.write_table(table.scan().to_arrow().cast(schema), path)
        transaction = table.transaction()
        exchange = _OverwriteFiles(operation=Operation.REPLACE, transaction=transaction, io=table.io)
        exchange.append_data_file(parquet_file_to_data_file(table.io, table.metadata, path))
        for task in table.scan().plan_files():
            exchange.delete_data_file(task.file)
        with monkeypatch.context() as patch:
            patch.setattr(snapshot, "update_snapshot_summaries", lambda summary, previous_summary: summary)
            exchange.commit()
        transaction.commit_transaction()

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        return {name: self.rows(name) for name in self.names()}
