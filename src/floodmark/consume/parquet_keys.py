"""What the files of a load are called, below the place that they are loaded into. Which of them are the tables now, the
index alone says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from floodmark.layout import fitting, table_segment, timestamp_moment
from floodmark.model import TableName

INDEX = "_floodmark/parquet.json"
LIST = "files.txt"
_LOADED = re.compile(r"-(\d{14}Z)-[0-9a-f]{6}-\d{5,}\.parquet\Z")
_LISTED = re.compile(r"/(\d{14}Z)-[0-9a-f]{6}/files\.txt\Z")


def file_key(table: TableName, load: str, number: int) -> str:
    """The key of one chunk's file. `load` is that load's own mark."""
    ending = f"-{load}-{number:05d}.parquet"
    return f"{segment(table)}/{fitting(_name(table), beside=len(ending))}{ending}"


def segment(table: TableName) -> str:
    """A table's folder below the place."""
    return fitting(_name(table), beside=0)


def _name(table: TableName) -> str:
    return table_segment(table, "")


def lists(table: TableName) -> str:
    """The folder of the lists of a table's files, which a catalog's table points at: one for each load."""
    return f"_floodmark/symlink/{segment(table)}"


def folders(tables: Iterable[TableName]) -> list[str]:
    """Where the tables' files and their lists are."""
    return [folder for table in tables for folder in (f"{segment(table)}/", f"{lists(table)}/")]


def is_file(key: str) -> bool:
    """Whether it is called as the files of tables are."""
    return _LOADED.search(key) is not None


def begun(key: str) -> datetime | None:
    """When the load began that wrote a file or a list; None for what is called otherwise."""
    found = _LOADED.search(key) or _LISTED.search(key)
    return None if found is None else timestamp_moment(found[1])
