"""The digest of a range of rows, computed by the server: equal digests mean equal values in every row, in equal order.

The server goes through the rows and keeps a chain: each link is the SHA-256 of the link before and the row's values. So
the digest covers the order, needs no sort and no memory, and can't be cut off by a limit. A statement that reads the
rows in another order gives another digest, and then the range is read: that costs time, and proves nothing wrong. The
parts of a row, see `columns.digest_part`, tell NULL from the empty text, and one value from two.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from sqlalchemy import Connection, Select, literal_column

from floodmark.source.masks import key_bytes
from floodmark.source.mysql.columns import digest_part, quoted
from floodmark.source.sql.facts import SqlTable

_LINK = "@floodmark_link"


def digest_rows(connection: Connection, table: SqlTable, counted: Select[tuple[int]]) -> tuple[int, str | None]:
    """Return the number of rows that `counted` counts, and their digest. None if the server could not compute it.

    A chain that still is its first link, although there are rows, was not computed once per row: that is no digest.
    """
    seed = _seed(table).hex()
    connection.exec_driver_sql(f"SET {_LINK} = x'{seed}'")
    link = f"COUNT({_LINK} := UNHEX(SHA2(CONCAT({_LINK}, {', '.join(_parts(table))}), 256)))"
    rows, linked = connection.execute(counted.add_columns(literal_column(link))).one()
    ((digest,),) = connection.exec_driver_sql(f"SELECT LOWER(HEX({_LINK}))").all()
    is_whole = int(linked) == int(rows) and bool(digest) and (digest == seed) == (int(rows) == 0)
    return int(rows), digest if is_whole else None


def covers_order(table: SqlTable) -> bool:
    """Return True if equal digests mean equal lines in equal order.

    Rows are read in the order of the clustered index, or of another key. Only the former is sure to be the order of the
    digest too. So the digest must cover another key.
    """
    if table.facts.note in (None, "PRIMARY"):
        return True
    hidden = {table.shape.names[i] for i, mask in table.shape.masks if mask != "hash"}
    return {key.name for key in table.facts.key} <= {column.name for column in table.columns} - hidden


def _parts(table: SqlTable) -> Iterable[str]:
    """Return the parts of a row. A value that a mask replaces has none, but for the question if it is NULL."""
    masks = dict(table.shape.masks)
    for position, column in enumerate(table.columns):
        mask = masks.get(position)
        if mask == "redact":
            yield f"{quoted(column.name)} IS NULL"
        elif mask != "null":
            yield digest_part(column)
    yield "';'"


def _seed(table: SqlTable) -> bytes:
    """Return the first link. If values are hashed, it depends on their key, so that nobody can guess them by it."""
    if table.shape.key is None:
        return bytes(32)
    return hmac.digest(key_bytes(table.shape.key), b"floodmark: the first link of a digest", hashlib.sha256)
