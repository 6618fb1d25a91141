"""Acts of sessions on the database of fix_service: each kind as the statements that it is made of."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from fix_journal import PASS_BUCKET
from fix_service import TWIN_NAMES, TWINS


class Act(Struct, frozen=True):
    """Something that is done to a table, to the rows that `where` picks. `size` is a number for its free use."""

    kind: str
    table: str = "public.event"
    where: str = "id < 20"
    size: int = 3


Make = Callable[[Act, int], list[str]]


def statements(act: Act, number: int) -> list[str]:
    """The statements of an act, inside a transaction if they need one. `number` makes what it names new."""
    return (ACTS | JOURNAL_ACTS)[act.kind](act, number)


def alone(act: Act, number: int) -> list[str]:
    """The statements of an act, and of the transaction that is its own where it needs one."""
    made = statements(act, number)
    return ["BEGIN", *made, "COMMIT"] if act.kind in OPEN_ACTS else made


def touches(act: Act) -> set[str]:
    """The tables that may show otherwise, or in other blocks, once it is done ("*": any)."""
    if act.kind in HARMLESS or act.kind in JOURNAL_HARMLESS:
        return set()
    if act.kind in SWEEPING:
        return {"*"}
    if act.kind in EXCHANGES or act.table in TWINS:
        return set(TWIN_NAMES)
    return {act.table, "public.visit"} if act.table == "public.spare" else {act.table}


def _plain(*texts: str) -> Make:
    return lambda act, number: [
        text.format(
            t=act.table, b=act.table.partition(".")[2], w=act.where, k=act.size, c=number,
            i=1000 + 50 * number, j=1000 + 50 * number + act.size,
        )
        for text in texts
    ]  # fmt: skip


_INSERT = "INSERT INTO {t} (id, n, v) SELECT i, i % 2, 'new ' || i || repeat('x', 100) FROM generate_series({i}, {j}) i"
_SWAP = """WITH gone AS (DELETE FROM {t} WHERE {w} RETURNING id)
    INSERT INTO {t} (id, n, v) SELECT {i} * 100 + row_number() OVER (), 0, 'swapped' FROM gone"""
_UPDATE = "UPDATE {t} SET v = left(v || ' {c}', 200) WHERE {w}"
# An exception handler is a subtransaction; more than 64 of them that have written are too many for shared memory.
_MANY = """DO $$ BEGIN
    FOR i IN 1..80 LOOP
        BEGIN UPDATE {t} SET v = left(v || ' many {c}', 200) WHERE id = i;
        EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
END $$"""

_ROWS: dict[str, Make] = {
    "insert": _plain(_INSERT),
    "update": _plain(_UPDATE),
    "hot update": _plain("UPDATE {t} SET n = n + 1 WHERE {w}"),
    "update that changes nothing": _plain("UPDATE {t} SET v = v WHERE {w}"),
    "delete": _plain("DELETE FROM {t} WHERE {w}"),
    "delete and insert as many": _plain(_SWAP),
    "savepoint rolled back": _plain("SAVEPOINT a", _UPDATE, "ROLLBACK TO a", _INSERT),
    "savepoint released": _plain("SAVEPOINT a", "SAVEPOINT b", _UPDATE, "RELEASE b", _INSERT, "RELEASE a"),
    "many subtransactions": _plain(_MANY),
    "upsert": _plain(
        "INSERT INTO event (id, n, v) SELECT i, 0, 'up' FROM generate_series({k}, {k} * 9) i "
        "ON CONFLICT (id) DO UPDATE SET n = event.n + 1"
    ),
    "lock rows": _plain("SELECT FROM {t} WHERE {w} FOR UPDATE"),
    "share rows": _plain("SELECT FROM {t} WHERE {w} FOR KEY SHARE"),
}
# What a transaction may do that is left open or prepared: it holds no lock that a run waits for.
OPEN_ACTS = tuple(_ROWS)

_MAINTENANCE: dict[str, Make] = {
    "vacuum": _plain("VACUUM {t}"),
    "vacuum freeze": _plain("VACUUM (FREEZE) {t}"),
    "vacuum full": _plain("VACUUM FULL {t}"),
    "cluster": _plain("CLUSTER {t} USING {b}_id"),
    "truncate": _plain("TRUNCATE {t}"),
    "truncate and fill again": _plain(
        "BEGIN", "CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM {t}", "TRUNCATE {t}",
        "INSERT INTO {t} SELECT * FROM kept ORDER BY id DESC", "COMMIT"
    ),
    "unlogged and logged": _plain("ALTER TABLE {t} SET UNLOGGED", "ALTER TABLE {t} SET LOGGED"),
    "analyze": _plain("ANALYZE {t}"),
    "index": _plain("CREATE INDEX ON {t} (v)"),
    "delete and vacuum": _plain("DELETE FROM {t} WHERE {w}", "VACUUM {t}"),
    "rolled back": _plain("BEGIN", "DELETE FROM {t}", "ROLLBACK"),
    "aborted insert": _plain("BEGIN", _INSERT, "ROLLBACK"),
    "new table": _plain(
        "BEGIN", "CREATE TABLE new_{c} (id int, n int, v text)",
        "INSERT INTO new_{c} SELECT i, 0, 'c' FROM generate_series(1, {k}) i", "COMMIT", "VACUUM (FREEZE) new_{c}"
    ),
}  # fmt: skip
_DEFINITIONS: dict[str, Make] = {
    "add column": _plain("ALTER TABLE {t} ADD extra int DEFAULT {k}"),
    "add column that rewrites": _plain("ALTER TABLE {t} ADD extra int DEFAULT (random() * 9)::int"),
    "drop column": _plain("ALTER TABLE {t} DROP extra"),
    "drop and add column": _plain("ALTER TABLE {t} DROP n, ADD n int DEFAULT {k}"),
    "rewriting alter": _plain("ALTER TABLE {t} ALTER n TYPE bigint", "ALTER TABLE {t} ALTER n TYPE int"),
    "rename there and back": _plain("ALTER TABLE {t} RENAME v TO w", "ALTER TABLE {t} RENAME w TO v"),
    "swap columns": _plain(
        "BEGIN", "ALTER TABLE {t} RENAME n TO m_", "ALTER TABLE {t} ADD n int DEFAULT 7", "ALTER TABLE {t} DROP m_",
        "COMMIT"
    ),
    "rename label": _plain("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"),
    "rename label back": _plain("ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'"),
    "rename label there and back": _plain(
        "ALTER TYPE mood RENAME VALUE 'glad' TO 'merry'", "ALTER TYPE mood RENAME VALUE 'merry' TO 'glad'"
    ),
    "rename table": _plain("ALTER TABLE spare RENAME TO spare_{c}", "ALTER TABLE spare_{c} RENAME TO spare"),
    "replace table": _plain(
        "BEGIN", "ALTER TABLE spare RENAME TO old_{c}", "CREATE TABLE spare (LIKE old_{c})",
        "INSERT INTO spare SELECT * FROM old_{c}", "COMMIT"
    ),
    "swap tables": _plain(
        "BEGIN", "ALTER TABLE person RENAME TO swap_", "ALTER TABLE copy_ RENAME TO person",
        "ALTER TABLE swap_ RENAME TO copy_", "COMMIT"
    ),
    "copy table": _plain("CREATE TABLE copy_ AS SELECT * FROM person"),
    "drop table": _plain("DROP TABLE copy_"),
}  # fmt: skip
_PARTITIONS: dict[str, Make] = {
    "attach": _plain(
        "DELETE FROM spare WHERE id >= 1000", "ALTER TABLE visit ATTACH PARTITION spare FOR VALUES FROM (900) TO (1000)"
    ),
    "detach": _plain("ALTER TABLE visit DETACH PARTITION spare"),
    "detach concurrently": _plain(
        "ALTER TABLE visit DETACH PARTITION visit_rest", "ALTER TABLE visit DETACH PARTITION spare CONCURRENTLY",
    ),
    "detach and attach": _plain(
        "ALTER TABLE visit DETACH PARTITION visit_a", "UPDATE visit_a SET v = 'apart' WHERE id = {k}",
        "ALTER TABLE visit ATTACH PARTITION visit_a FOR VALUES FROM (0) TO (300)"
    ),
    "attach the rest": _plain("ALTER TABLE visit ATTACH PARTITION visit_rest DEFAULT"),
    "move between partitions": _plain("UPDATE visit SET id = id + 300 WHERE id BETWEEN {k} * 10 AND {k} * 12"),
    "truncate a leaf": _plain("TRUNCATE visit_b1"),
    "drop and make a leaf": _plain(
        "BEGIN", "DROP TABLE visit_b0", "CREATE TABLE visit_b0 PARTITION OF visit_b FOR VALUES IN (0)", "COMMIT"
    ),
    "exchange leaves' names": _plain(
        "BEGIN", "ALTER TABLE visit_b0 RENAME TO x_", "ALTER TABLE visit_b1 RENAME TO visit_b0",
        "ALTER TABLE x_ RENAME TO visit_b1", "COMMIT"
    ),
    "exchange a leaf": _plain(
        "BEGIN", "ALTER TABLE visit DETACH PARTITION visit_a", "ALTER TABLE visit_a RENAME TO x_",
        "ALTER TABLE visit_z RENAME TO visit_a", "ALTER TABLE x_ RENAME TO visit_z",
        "ALTER TABLE visit ATTACH PARTITION visit_a FOR VALUES FROM (0) TO (300)", "COMMIT"
    ),
}  # fmt: skip
# Names that lead to other tables for a while. Renaming a schema waits for nobody who reads.
EXCHANGES: dict[str, Make] = {
    "exchange tables": _plain(
        "BEGIN", "ALTER TABLE here.one RENAME TO x_", "ALTER TABLE here.two RENAME TO one",
        "ALTER TABLE here.x_ RENAME TO two", "COMMIT"
    ),
    "exchange tables across": _plain(
        "BEGIN", "ALTER TABLE here.one SET SCHEMA between", "ALTER TABLE there.one SET SCHEMA here",
        "ALTER TABLE between.one SET SCHEMA there", "COMMIT"
    ),
    "exchange schemas": _plain(
        "BEGIN", "ALTER SCHEMA here RENAME TO x_", "ALTER SCHEMA there RENAME TO here",
        "ALTER SCHEMA x_ RENAME TO there", "COMMIT"
    ),
    "schema away": _plain("ALTER SCHEMA here RENAME TO away"),
    "schema back": _plain("ALTER SCHEMA away RENAME TO here"),
    "view in place": _plain(
        "BEGIN", "ALTER TABLE here.one RENAME TO one_",
        "CREATE VIEW here.one AS SELECT ctid, xmin, * FROM here.two OFFSET 0", "COMMIT"
    ),
    "view gone": _plain("BEGIN", "DROP VIEW here.one", "ALTER TABLE here.one_ RENAME TO one", "COMMIT"),
}  # fmt: skip
ACTS: dict[str, Make] = {**_ROWS, **_MAINTENANCE, **_DEFINITIONS, **_PARTITIONS, **EXCHANGES}
_STATES = "ALTER TABLE {t} {s} TRIGGER floodmark_journal, {s} TRIGGER floodmark_journal_truncate"
_OFF, _ON, _REPLICA = (_STATES.replace("{s}", state) for state in ("DISABLE", "ENABLE ALWAYS", "ENABLE REPLICA"))
# What hides a write from the journal, and what becomes of the journal itself.
JOURNAL_ACTS: dict[str, Make] = {
    "disabled for a while": _plain(_OFF, _UPDATE, _ON),
    "all disabled for a while": _plain(
        "ALTER TABLE {t} DISABLE TRIGGER ALL", _UPDATE, "ALTER TABLE {t} ENABLE TRIGGER ALL", _ON
    ),
    "left as pg_restore does": _plain(
        "ALTER TABLE {t} DISABLE TRIGGER ALL", _UPDATE, "ALTER TABLE {t} ENABLE TRIGGER ALL"
    ),
    "in one transaction": _plain("BEGIN", _OFF, _UPDATE, _ON, "COMMIT"),
    "as a replica": _plain("SET session_replication_role = replica", _UPDATE, "SET session_replication_role = origin"),
    "serializable": _plain("BEGIN ISOLATION LEVEL SERIALIZABLE", _UPDATE, "COMMIT"),
    "left for replicas": _plain(_REPLICA),
    "triggers dropped": _plain("DROP TRIGGER floodmark_journal ON {t}"),
    "another parent for a while": _plain(
        "CREATE TABLE parent_{c} (id int)", "ALTER TABLE {t} INHERIT parent_{c}", "DELETE FROM parent_{c} WHERE {w}",
        "ALTER TABLE {t} NO INHERIT parent_{c}", "DROP TABLE parent_{c}"
    ),
    "another root for a while": _plain(
        "ALTER TABLE visit DETACH PARTITION visit_a", "CREATE TABLE root_{c} (LIKE visit) PARTITION BY RANGE (id)",
        "ALTER TABLE root_{c} ATTACH PARTITION visit_a FOR VALUES FROM (0) TO (300)",
        "UPDATE root_{c} SET v = 'elsewhere {c}' WHERE {w}", "ALTER TABLE root_{c} DETACH PARTITION visit_a",
        "DROP TABLE root_{c}", "ALTER TABLE visit ATTACH PARTITION visit_a FOR VALUES FROM (0) TO (300)"
    ),
    "another journal for a while": _plain(
        "BEGIN", "ALTER TABLE floodmark.journal RENAME TO away",
        "CREATE TABLE floodmark.journal (LIKE floodmark.away INCLUDING ALL)", "COMMIT", _UPDATE,
        "BEGIN", "DROP TABLE floodmark.journal", "ALTER TABLE floodmark.away RENAME TO journal", "COMMIT"
    ),
    "trim": _plain("SELECT floodmark.trim_journal('0')"),
    "delete from the journal": _plain("DELETE FROM floodmark.journal"),
    "truncate the journal": _plain("TRUNCATE floodmark.journal"),
    "vacuum the journal": _plain("VACUUM (FREEZE) floodmark.journal"),
    "rewrite the journal": _plain("VACUUM FULL floodmark.journal"),
    "ids go on": lambda act, number: [PASS_BUCKET],
}  # fmt: skip
# Acts, and those that undo them: of twins' names, and of other things.
TWIN_PAIRS = (
    ("exchange tables", "exchange tables"), ("exchange tables across", "exchange tables across"),
    ("exchange schemas", "exchange schemas"), ("view in place", "view gone"),
)  # fmt: skip
PAIRS = (
    ("schema away", "schema back"), ("exchange leaves' names", "exchange leaves' names"),
    ("exchange a leaf", "exchange a leaf"), ("swap tables", "swap tables"), ("rename label", "rename label back"),
    ("attach", "detach"),
)  # fmt: skip
# Acts that change a twin, and others, after which it still has as many rows as the other twins.
CHANGING = ("update", "hot update", "delete and insert as many", "many subtransactions")
EVEN = (
    *CHANGING, "update that changes nothing", "lock rows", "vacuum", "vacuum freeze", "vacuum full",
    "truncate and fill again", "rename there and back", "rewriting alter", "unlogged and logged", "rolled back",
)  # fmt: skip

# What shows a snapshot that is older another table, or none, or makes lines of another shape.
REWRITING = (
    "vacuum full", "cluster", "truncate", "truncate and fill again", "add column that rewrites", "rewriting alter",
    "swap columns", "drop and add column", "replace table", "swap tables", "rename label there and back", "attach",
    "detach", "detach and attach", "truncate a leaf", "drop and make a leaf", "unlogged and logged", "exchange a leaf",
)  # fmt: skip
# A table that only these happened to is still to be proven unchanged.
HARMLESS = frozenset(
    {"lock rows", "share rows", "vacuum", "vacuum freeze", "analyze", "index", "rolled back", "new table"}
)
JOURNAL_HARMLESS = frozenset(
    {
        "left for replicas", "triggers dropped", "trim", "delete from the journal", "truncate the journal",
        "vacuum the journal",
        "rewrite the journal", "ids go on",
    }
)  # fmt: skip
SWEEPING = frozenset({*_PARTITIONS, *_DEFINITIONS, "upsert", "another root for a while"}) - {
    "add column", "add column that rewrites", "drop column", "rewriting alter", "rename there and back",
}  # fmt: skip
