"""The statements for databases that no test can reach, as SQLAlchemy's own dialects write them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.dialects import mssql, oracle
from sqlalchemy.engine import make_url
from sqlalchemy.types import INTEGER, JSON, VARCHAR, Numeric, TypeEngine

from floodmark.config import Secret
from floodmark.errors import SnapshotLost, TableError
from floodmark.model import Fingerprint, TableName
from floodmark.observed import TableInfo
from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.facts import KeyColumn, LineShape, SqlColumn, SqlOptions, SqlRelation, SqlTable, TableFacts
from floodmark.source.sql.mssql import LEVEL, SNAPSHOT_ALLOWED, SQLServer, without_zeros
from floodmark.source.sql.oracle import BEGIN, SCHEMAS, SETTINGS, Oracle, utc_moment
from floodmark.source.sql.ranges import conditions
from floodmark.source.sql.statements import count_rows, select_bounds, select_keys, select_rows

DIALECTS: dict[str, tuple[type[Dialect], str, Any]] = {
    "mssql": (SQLServer, "mssql+pyodbc://h/db", mssql.dialect()),
    "oracle": (Oracle, "oracle+oracledb://h/db", oracle.dialect()),
}


def made(name: str) -> Dialect:
    kind, url, _ = DIALECTS[name]
    return kind(make_url(url), SqlOptions(Secret(url)))


def table_of(
    name: TableName, columns: dict[str, TypeEngine[Any]], keys: list[str], where: str | None = None
) -> SqlTable:
    found = tuple(SqlColumn(column, type(kind).__name__, False, note=kind) for column, kind in columns.items())
    key = tuple(KeyColumn(one, note=columns[one]) for one in keys)
    facts = TableFacts(columns=found, key=key)
    info = TableInfo(table=name, oid=0, kind="table", columns=(), parts=(), fingerprint=Fingerprint("", ""))
    return SqlTable(info, SqlRelation(name), facts, found, LineShape((), (), (), None), where)


def told(name: str, statement: Any) -> str:
    text = str(statement.compile(dialect=DIALECTS[name][2]))
    return " ".join(text.split())


COLUMNS: dict[str, dict[str, TypeEngine[Any]]] = {
    "mssql": {
        "Region": VARCHAR(20, collation="Latin1_General_CI_AS"),
        "id": INTEGER(),
        "amount": Numeric(10, 2),
        "made": mssql.DATETIME2(7),
        "seen": mssql.DATETIMEOFFSET(),
        "any thing": mssql.SQL_VARIANT(),
        "token": mssql.UNIQUEIDENTIFIER(),
    },
    "oracle": {
        "Region": VARCHAR(20),
        "id": INTEGER(),
        "amount": Numeric(10, 2),
        "made": oracle.TIMESTAMP(),
        "seen": oracle.TIMESTAMP(timezone=True),
        "note": JSON(),
        "spent": oracle.INTERVAL(),
    },
}
NAMES = {"mssql": TableName("dbo", "Case Note"), "oracle": TableName("cases", "Case Note")}

SELECTED = {
    "mssql": (
        "SELECT [Region], [id], [amount], convert(varchar(33), [made], 126) AS convert_1, "
        "convert(varchar(33), switchoffset([seen], 0), 126) AS convert_2, "
        "CAST([any thing] AS NVARCHAR(max)) AS [any thing], [token] FROM [dbo].[Case Note]"
    ),
    "oracle": (
        'SELECT "Region", id, amount, to_char(made, \'YYYY-MM-DD"T"HH24:MI:SS.FF9\') AS to_char_1, '
        "to_char(sys_extract_utc(seen), 'YYYY-MM-DD\"T\"HH24:MI:SS.FF9') AS to_char_2, "
        'json_serialize(note) AS json_serialize_1, to_char(spent) AS to_char_3 FROM cases."Case Note"'
    ),
}
FROM = {"mssql": "FROM [dbo].[Case Note]", "oracle": 'FROM cases."Case Note"'}
KEY = {"mssql": "[Region], [id]", "oracle": '"Region", id'}
FIRST = {
    "mssql": (
        "[Region] <= CAST(:param_1 AS VARCHAR(20)) AND ([Region] < CAST(:param_1 AS VARCHAR(20)) OR [id] < :param_2)"
    ),
    "oracle": '"Region" <= :param_1 AND ("Region" < :param_1 OR id < :param_2)',
}
SECOND = {
    "mssql": (
        "[Region] >= CAST(:param_1 AS VARCHAR(20)) AND ([Region] > CAST(:param_1 AS VARCHAR(20)) OR [id] >= :param_2)"
        " AND [Region] <= CAST(:param_3 AS VARCHAR(20))"
        " AND ([Region] < CAST(:param_3 AS VARCHAR(20)) OR [id] < :param_4)"
    ),
    "oracle": (
        '"Region" >= :param_1 AND ("Region" > :param_1 OR id >= :param_2) '
        'AND "Region" <= :param_3 AND ("Region" < :param_3 OR id < :param_4)'
    ),
}
WHERE = "amount > 1.5 -- '50%' at 12:30"


@pytest.mark.parametrize("name", DIALECTS)
def test_the_statements_that_read_a_table(name: str) -> None:
    dialect, order = made(name), f"ORDER BY {KEY[name]}"
    table = table_of(NAMES[name], COLUMNS[name], ["Region", "id"], WHERE)
    keys = [(dialect.key_expression(key), key) for key in table.facts.key]
    first, second, _ = conditions(keys, [("North", 7), ("South", 1)], dialect.bound)
    assert told(name, select_rows(dialect, table)) == f"{SELECTED[name]} WHERE ({WHERE} ) {order}"
    ranged = f"{SELECTED[name]} WHERE {SECOND[name]} AND ({WHERE} ) {order}"
    assert told(name, select_rows(dialect, table, second)) == ranged
    counted = f"SELECT count(*) AS count_1 {FROM[name]}"
    assert told(name, count_rows(dialect, table, first)) == f"{counted} WHERE {FIRST[name]} AND ({WHERE} )"
    assert told(name, count_rows(dialect, table, first, filtered=False)) == f"{counted} WHERE {FIRST[name]}"
    assert told(name, select_keys(dialect, table)) == f"SELECT {KEY[name]} {FROM[name]} {order}"
    id_ = KEY[name].split(", ")[1]
    bounds = select_bounds(dialect, table_of(NAMES[name], {"id": INTEGER()}, ["id"]))
    assert told(name, bounds) == f"SELECT min({id_}) AS min_1, max({id_}) AS max_1 {FROM[name]}"


def test_the_statements_that_begin_a_snapshot() -> None:
    assert SNAPSHOT_ALLOWED == "SELECT snapshot_isolation_state FROM sys.databases WHERE name = DB_NAME()"
    assert LEVEL in mssql.dialect().get_isolation_level_values(None)
    assert BEGIN == "SET TRANSACTION READ ONLY"
    assert SETTINGS[0] == "ALTER SESSION SET NLS_SORT = BINARY NLS_COMP = BINARY"
    assert SCHEMAS == "SELECT username FROM all_users WHERE oracle_maintained = 'N' ORDER BY username"


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ("2024-01-31T12:00:00.5000000", "2024-01-31T12:00:00.5"),
        ("2024-01-31T12:00:00.0000000", "2024-01-31T12:00:00"),
        ("2024-01-31T12:00:00", "2024-01-31T12:00:00"),
        ("2024-01-31T12:00:00.1200000+00:00", "2024-01-31T12:00:00.12+00:00"),
        ("12:00:10", "12:00:10"),
    ],
)
def test_a_time_has_no_zeros_at_its_end(told: str, text: str) -> None:
    assert without_zeros(told) == text
    assert utc_moment("2024-01-31T12:00:00.100000000") == "2024-01-31T12:00:00.1+00:00"


class OdbcError(Exception):
    pass


def test_errors_hold_a_number_and_no_text() -> None:
    canary = "canary (4711)"
    server, database = made("mssql"), made("oracle")
    told = f"[42000] [SQL Server]Conversion failed for '{canary}'. (245) (SQLExecDirectW)"
    assert server.code(OdbcError("42000", told)) == "SQL Server error 245"
    assert server.code(OdbcError(f"Conversion failed for '{canary}'")) == "OdbcError"
    assert database.code(OdbcError(f"ORA-01722: invalid number {canary}")) == "ORA-01722"
    name = TableName("dbo", "t")
    for dialect, lost in ((server, "... (3961) (SQLFetch)"), (database, "ORA-01555: snapshot too old")):
        assert isinstance(dialect.failure(OdbcError(lost), "can't extract", name, None), SnapshotLost)
        refused = dialect.failure(OdbcError(canary), "can't extract", name, "a > 1")
        assert isinstance(refused, TableError) and "canary" not in str(refused)
