"""Reader for landed data, and loaders that copy it elsewhere. See docs/consumers.md.

    from floodmark import consume

    snapshot = consume.open("s3://my-lake/cases").latest()

`reader` holds what a program uses. `load` brings tables into DuckDB, Parquet or a Glue catalog, incrementally. `schema`
describes the tables. `types` maps each source type to its target types. No module here needs a database driver.
"""

from floodmark.consume.changes import Changed, Changes
from floodmark.consume.cursor import StoredCursor
from floodmark.consume.reader import Reader, Snapshot, Table, open

__all__ = ["Changed", "Changes", "Reader", "Snapshot", "StoredCursor", "Table", "open"]
