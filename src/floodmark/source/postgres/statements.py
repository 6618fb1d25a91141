"""The SQL that observes and extracts. Names are quoted here; values are numbers from the catalog.

Every statement is written out, without parameters: the simple protocol needs no prepared statement, and COPY takes no
parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from floodmark.model import Chunk, Format
from floodmark.observed import Part, Question, TableInfo
from floodmark.source.postgres.identity import ExpectedReads
from floodmark.source.postgres.types import FIRST_USER_OID
from floodmark.source.postgres.wire import WireColumn
from floodmark.source.quoting import qualified, quoted

# JSON text holds no control characters but white space, so these can't occur in a line: CSV then has nothing to quote
# or double. (COPY's text format doubles every backslash and so corrupts JSON.)
_COPY_OPTIONS = r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'"


# With narrow rows and names of at most this total length, a group's lines stay below about 16 MiB, even if a block's
# values are compressed a hundredfold. Usually they have about a hundred KiB.
GROUP_BLOCKS = 8
_NAMES_BYTES = 4096
_NO_BLOCK = 2**32 - 1
_LINE = "row_to_json({}.*)"  # the star: a column could capture a bare name
_FROZEN = "count(*) FILTER (WHERE {}xmin = '2'::xid)"


class PgTable(Struct, frozen=True):
    """A table to read. `columns_sql` are items `expression AS "name"`, in column order, valid on every part.

    `where` is the user's row filter, an SQL condition, or None. `raw_newlines` says that a line can hold newlines (a
    `json` value keeps them), which have to be replaced. `reads` gives, by a part's id, the relations that a statement
    about that part must lock. `journal` says that the user chose `detect: journal`. `wire` are the same columns for the
    native encoder. `hashes` says that a mask needs the key.
    """

    info: TableInfo
    columns_sql: tuple[str, ...]
    where: str | None
    raw_newlines: bool
    reads: Mapping[str, ExpectedReads]
    journal: bool = False
    wire: tuple[WireColumn, ...] = ()
    hashes: bool = False


def literal(text: str) -> str:
    """Return a text as an SQL literal (standard_conforming_strings is pinned)."""
    return "'" + text.replace("'", "''") + "'"


def observe_chunk(part: Part, chunk: Chunk, open_end: bool, since: int, watched: str | None, database: int) -> str:
    """Count a chunk's rows: all, those from `since` on, and those with xmin 2.

    The statement also gives a digest of the watched column's greatest value, which must not leave the server unchanged.
    Then it gives the present file of the relation that the snapshot means, and the oids of the relations that the
    transaction has locked.

    A raw xmin that was frozen long ago has a negative age.

    PostgreSQL locks the relation that a name leads to before it runs the statement. So the last column includes the
    relation that was counted. If it is the relation that the snapshot means, its file can't change any more.
    """
    newest = f"encode(sha256(convert_to(max({quoted(watched)})::text, 'UTF8')), 'hex')" if watched else "NULL"
    return (
        f"SELECT {_counts(since)}, {newest}, {_relations_read(part, database)} "
        f"FROM ONLY {qualified(part.table)}{_where_clause(_block_range(chunk, open_end))}"
    )


def observe_together(questions: Sequence[Question], database: int) -> str:
    """Count the rows of several whole tables, each as `observe_chunk` does. See `together` for the check.

    The columns are: number of the question, the three counts, least and greatest oid of the relations that the rows
    came from. A table without rows gives no row. The last row has the number -1, the present files in the order of the
    questions, and the oids of the relations that are locked.

    One aggregate for all tables is planned in a third of the time that one for each table takes.
    """
    of_each = " UNION ALL ".join(
        f"SELECT {number} AS number, tableoid AS relation, {_young(_age(asked.since))} AS young, "
        f"xmin = '2'::xid AS frozen FROM ONLY {qualified(asked.part.table)}"
        for number, asked in enumerate(questions)
    )
    parts = ",".join(asked.part.id for asked in questions)
    files = (
        "ARRAY(SELECT pg_relation_filenode(part)::bigint "
        f"FROM unnest('{{{parts}}}'::oid[]) WITH ORDINALITY AS parts(part, place) ORDER BY place)"
    )
    locks = f"ARRAY({_locks_of(questions[0].part.id, database)})"
    return (
        "SELECT number, count(*), count(*) FILTER (WHERE young), count(*) FILTER (WHERE frozen), "
        "min(relation)::bigint, max(relation)::bigint, NULL::bigint[], NULL::bigint[] "
        f"FROM ({of_each}) AS counted GROUP BY number "
        f"UNION ALL SELECT -1, NULL, NULL, NULL, NULL, NULL, {files}, {locks}"
    )


def _counts(since: int) -> str:
    """Return the columns for the number of rows: all, those from `since` on, and those with xmin 2."""
    young = _young(f"(SELECT {_age(since)})")
    return f"count(*), count(*) FILTER (WHERE {young}), {_FROZEN.format('')}"


def _age(xid: int) -> str:
    return f"age('{xid % 2**32}'::xid)"


def _young(since: str) -> str:
    """Return the condition for a row that is not older than `since`, an age. Few are, so that comparison goes first."""
    return f"age(xmin) <= {since} AND age(xmin) >= 0"


def holds_rows(part: Part, chunk: Chunk, open_end: bool, database: int) -> str:
    """Count a chunk's rows up to the first, in the columns of `observe`: the scan stops there."""
    found = f"SELECT FROM ONLY {qualified(part.table)}{_where_clause(_block_range(chunk, open_end))} LIMIT 1"
    return f"SELECT count(*), 0, 0, NULL, {_relations_read(part, database)} FROM ({found}) AS found"


def _relations_read(part: Part, database: int) -> str:
    """Return the columns for the present file of the snapshot's relation, and for the transaction's locks."""
    return f"pg_relation_filenode({part.id}), ARRAY({_locks_of(part.id, database)})"


def _locks_of(root: str, database: int) -> str:
    return f"SELECT relation::bigint FROM pg_locks l WHERE {_locked_by_us(root, database)}"


def locked_relations(root: int, database: int) -> str:
    """List the user relations that the transaction has locked, and `root` if it has, without indexes.

    The columns are: oid, relkind and file in the snapshot, present file.
    """
    return (
        "SELECT l.relation::bigint, c.relkind::text, c.relfilenode::bigint, pg_relation_filenode(l.relation)::bigint "
        f"FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation WHERE {_locked_by_us(root, database)}"
    )


def plan_only(part: Part) -> str:
    """Read no row of a part: planning takes the same locks as a read."""
    return f"SELECT FROM ONLY {qualified(part.table)} LIMIT 0"


def partition_members(root: int) -> str:
    """List a partitioned table and everything attached to it at present, except what the snapshot shows as detached."""
    return f"SELECT relid::oid::bigint FROM pg_partition_tree({root})"


def names_of(relations: Iterable[int]) -> str:
    """Return the present names of some relations."""
    return f"SELECT string_agg(o::regclass::text, ', ') FROM unnest('{{{','.join(map(str, relations))}}}'::oid[]) o"


def _locked_by_us(root: int | str, database: int) -> str:
    """Pick this transaction's locks on relations from pg_locks, without indexes.

    The present catalog decides what is an index, because one can be newer than the snapshot. pg_index_has_property asks
    it, and is null for all other relations.
    """
    return (
        "l.pid = pg_backend_pid() AND l.locktype = 'relation' "
        f"AND l.database = {database} AND (l.relation >= {FIRST_USER_OID} OR l.relation = {root}) "
        "AND pg_index_has_property(l.relation, 'clusterable') IS NULL"
    )


def unmasked_columns(info: TableInfo) -> tuple[str, ...]:
    """Return the select-list items of a table without masks."""
    return tuple(f"{quoted(column.name)} AS {quoted(column.name)}" for column in info.columns)


def read_query(table: PgTable, row_format: Format) -> str:
    """Return the query that reads a table, or its first part."""
    root = str(table.info.oid)
    if not table.info.parts:  # a partitioned table without partitions
        part = Part(root, table.info.table, relfilenode=0, heap_blocks=0, total_bytes=0, by_block=False)
        table = replace(table, reads={root: ExpectedReads(table.info.oid, exact=False)})
    else:
        part = table.info.parts[0]
    chunk = Chunk(part.id, 0)
    if row_format == "csv":
        return _rows_sql(table, part, chunk, True)
    if reads_by_groups(table, part):
        return _groups_sql(table, part, chunk, True)
    return _lines_sql(table, part, chunk, True)


def copy_rows(table: PgTable, part: Part, chunk: Chunk, open_end: bool) -> str:
    """COPY a chunk's rows out, one JSON line for each row."""
    return f"COPY ({_lines_sql(table, part, chunk, open_end)}) TO STDOUT ({_COPY_OPTIONS})"


def copy_csv(table: PgTable, part: Part, chunk: Chunk, open_end: bool) -> str:
    """COPY a chunk's rows out as CSV with a header line. A null is an empty field, an empty string is "" in quotes."""
    rows = _rows_sql(table, part, chunk, open_end)
    return f"COPY ({rows}) TO STDOUT (FORMAT csv, HEADER true, NULL '')"


def reads_by_groups(table: PgTable, part: Part) -> bool:
    """Return True if the lines of some blocks together are certainly small, so that `copy_groups` can be used."""
    names = sum(len(column.name) + 8 for column in table.info.columns)
    return part.by_block and part.narrow and names <= _NAMES_BYTES


def copy_groups(table: PgTable, part: Part, chunk: Chunk, open_end: bool) -> str:
    """COPY a chunk's rows out, with the lines of some blocks joined to one value: far fewer messages to receive.

    The format is binary, with one row for each group: its lines (a nullable text), the number of rows that they were
    made from, and the number of those rows with xmin 2. The scan that makes the lines counts the rows, so the two can't
    differ.
    """
    return f"COPY ({_groups_sql(table, part, chunk, open_end)}) TO STDOUT (FORMAT binary)"


def copy_binary_rows(table: PgTable, part: Part, chunk: Chunk, open_end: bool, row_format: Format) -> str:
    """COPY a chunk's rows out for the native encoder, one message for each row.

    If `marks_frozen_rows`, there is one more column, which is null unless the row's xmin is 2.
    """
    sent = _for_the_wire(table, row_format, grouped=False)
    if marks_frozen_rows(table, part):
        (mark,) = _own_names(table, part, "mark")
        frozen = f"CASE WHEN {quoted(table.info.table.name)}.xmin = '2'::xid THEN true END AS {mark}"
        sent = replace(sent, columns_sql=(*sent.columns_sql, frozen))
    return f"COPY ({_rows_sql(sent, part, chunk, open_end)}) TO STDOUT (FORMAT binary)"


def copy_binary_groups(table: PgTable, part: Part, chunk: Chunk, open_end: bool, row_format: Format) -> str:
    """COPY a chunk's rows out for the native encoder, in groups like those of `copy_groups`.

    A group is the concatenation of `record_send` for each of its rows. It needs no cast and no user's function.
    """
    sent = _for_the_wire(table, row_format, grouped=True)
    return f"COPY ({_groups_sql(sent, part, chunk, open_end, binary=True)}) TO STDOUT (FORMAT binary)"


def marks_frozen_rows(table: PgTable, part: Part) -> bool:
    """Return True if the rows that are sent are those to count: all rows of some blocks."""
    return part.by_block and table.where is None


def _for_the_wire(table: PgTable, row_format: Format, grouped: bool) -> PgTable:
    """Return a table whose columns are those that the native encoder takes."""
    return replace(table, columns_sql=tuple(column.sql(row_format, grouped) for column in table.wire))


def _groups_sql(table: PgTable, part: Part, chunk: Chunk, open_end: bool, binary: bool = False) -> str:
    group, number, found, row = _own_names(table, part, "group", "number", "found", "row")
    first, relation = f"{group}.{number}", quoted(table.info.table.name)
    end = max(part.heap_blocks, chunk.start + 1) if open_end or chunk.stop is None else chunk.stop
    after = (
        f"CASE WHEN {first} + {GROUP_BLOCKS} >= {end} THEN {_NO_BLOCK if open_end else end} "
        f"ELSE {first} + {GROUP_BLOCKS} END"
    )
    sent = f"record_send({row}.*), ''::bytea" if binary else f"{_line_text(table, row)}, E'\\n'"
    of_group = (
        f"SELECT string_agg({sent}), count(*), {_FROZEN.format(f'{relation}.')} "
        f"FROM {_relation_sql(table, part)} {_joined_columns(table, row)} "
        f"WHERE {relation}.ctid >= {_tid_literal(first)} AND {relation}.ctid < {_tid_literal(after)}"
    )
    series = f"generate_series({chunk.start}::bigint, {end - 1}, {GROUP_BLOCKS}) AS {group}({number})"
    return f"SELECT {found}.* FROM {series}, LATERAL ({of_group}) {found}"


def _own_names(table: PgTable, part: Part, *purposes: str) -> list[str]:
    """Return names for the statement's own parts, which the table, its columns and its filter do not contain.

    The filter is in the scope of these names, so it could otherwise refer to one of them by mistake.
    """
    columns = (column.name for column in table.info.columns)
    taken = "\n".join([table.info.table.name, part.table.name, table.where or "", *columns])
    return [quoted(next(name for i in count() if (name := f"floodmark {what} {i}") not in taken)) for what in purposes]


def _relation_sql(table: PgTable, part: Part) -> str:
    """Return the relation that rows are read from.

    A filter can name the table, so a leaf gets the name of the table that it belongs to as an alias.
    """
    only = "ONLY " if table.reads[part.id].only else ""
    alias = "" if part.table == table.info.table else f" AS {quoted(table.info.table.name)}"
    return f"{only}{qualified(part.table)}{alias}"


def _joined_columns(table: PgTable, row: str) -> str:
    """Return the columns of a row, as `row`. If a filter drops the row, it is still counted, and `row` is null."""
    columns = f"SELECT {', '.join(table.columns_sql)}"
    if table.where is None:
        return f"CROSS JOIN LATERAL ({columns}) {row}"
    return f"LEFT JOIN LATERAL ({columns} WHERE ({table.where}\n)) {row} ON true"


def _line_text(table: PgTable, row: str) -> str:
    """Return a line as text, by the types' own functions: a user's cast from json to text can exist."""
    line = f"textin(json_out({_LINE.format(row)}))"
    return f"replace(replace({line}, E'\\n', ' '), E'\\r', ' ')" if table.raw_newlines else line


def _lines_sql(table: PgTable, part: Part, chunk: Chunk, open_end: bool) -> str:
    rows = _rows_sql(table, part, chunk, open_end)
    line = _line_text(table, "r") if table.raw_newlines else _LINE.format("r")
    return f"SELECT {line} FROM ({rows}) r"


def _rows_sql(table: PgTable, part: Part, chunk: Chunk, open_end: bool) -> str:
    conditions = _block_range(chunk, open_end) if part.by_block else []
    if table.where is not None:
        conditions = [*conditions, f"({table.where}\n)"]
    return f"SELECT {', '.join(table.columns_sql)} FROM {_relation_sql(table, part)}{_where_clause(conditions)}"


def _tid_literal(block: str) -> str:
    return f"tidin(textout(format('(%s,0)', {block})))"


# For lines in the heap's order (a filter, or few columns, can make the order of an index look cheap).
PLANNING = {
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "enable_seqscan": "on",
}
IN_HEAP_ORDER = "; ".join(f"SET LOCAL {name} = {value}" for name, value in PLANNING.items())


def _block_range(chunk: Chunk, open_end: bool) -> list[str]:
    conditions = [f"ctid >= '({chunk.start},0)'::tid"] if chunk.start else []
    if not open_end and chunk.stop is not None:
        conditions.append(f"ctid < '({chunk.stop},0)'::tid")
    return conditions


def _where_clause(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
