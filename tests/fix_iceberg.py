"""An Iceberg warehouse of a test's own, as a reader with PyIceberg finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table

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

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        return {name: self.rows(name) for name in self.names()}
