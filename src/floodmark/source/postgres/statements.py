"""The SQL that observes and extracts. Names are quoted here; values are numbers that the catalog gave.

Everything is written out, without parameters: the simple protocol needs no prepared statement, and COPY
takes none.
"""

from __future__ import annotations

from floodmark.model import Chunk, Part
from floodmark.source.postgres.names import qualified
from floodmark.source.postgres.table import PgTable

# JSON text holds no control characters but white space, so these can't occur in a line: CSV then has
# nothing to quote or double. (COPY's text format doubles every backslash and so corrupts JSON.)
_COPY_OPTIONS = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'"


def literal(text: str) -> str:
    """A text as an SQL literal (standard_conforming_strings is pinned)."""
    return "'" + text.replace("'", "''") + "'"


def observe(part: Part, chunk: Chunk, open_end: bool, since: int) -> str:
    """Count a chunk's rows: all, those from `since` on, those with xmin 2; then what the table is now.

    The last two columns are read under the lock that the scan took: the present file, and the present oid
    behind the name. Both must be what the snapshot saw.
    """
    name = qualified(part.table)
    return (
        "SELECT count(*), "
        f"count(*) FILTER (WHERE age(xmin) BETWEEN 0 AND (SELECT age('{since % 2**32}'::xid))), "
        "count(*) FILTER (WHERE xmin = '2'::xid), "
        f"pg_relation_filenode({part.id}), to_regclass({literal(name)})::oid "
        f"FROM ONLY {name}{_where(_block_range(chunk, open_end))}"
    )


def copy_rows(table: PgTable, part: Part, chunk: Chunk, open_end: bool) -> str:
    """COPY a chunk's rows out, one JSON line a row."""
    line = "row_to_json(r.*)"
    if table.raw_newlines:
        line = f"replace(replace({line}::text, E'\\n', ' '), E'\\r', ' ')"
    only = "ONLY " if part.by_block else ""
    conditions = _block_range(chunk, open_end) if part.by_block else []
    if table.where is not None:
        conditions.append(f"({table.where}\n)")
    rows = f"SELECT {', '.join(table.columns_sql)} FROM {only}{qualified(part.table)}{_where(conditions)}"
    return f"COPY (SELECT {line} FROM ({rows}) r) TO STDOUT ({_COPY_OPTIONS})"


# Every relation with storage that this transaction has locked, so every one that a statement of it read,
# and whether its present file is another than the snapshot shows.
REWRITTEN_AMONG_LOCKED = """
    SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'm', 't')
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND c.oid >= 16384 AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
"""


def _block_range(chunk: Chunk, open_end: bool) -> list[str]:
    conditions = [f"ctid >= '({chunk.start},0)'::tid"] if chunk.start else []
    if not open_end and chunk.stop is not None:
        conditions.append(f"ctid < '({chunk.stop},0)'::tid")
    return conditions


def _where(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
