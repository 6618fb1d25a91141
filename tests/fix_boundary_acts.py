"""A small service's database, and what another session can do to it at any moment of a run.

Every table has the same columns and, so that no count tells one from another, as many rows; only `far.odd` has one
row less than `near.odd`, so that a count taken of the wrong one of them can come true by a deletion.

Each act is a list of moves. A move is one transaction: it is done whole, or refused because the run holds a lock. Most
moves can be undone, so that what they change can last for a single statement of a run.
"""

from __future__ import annotations

from msgspec import Struct

from floodmark.config import ColumnRule, TableRule

ROWS = 20
ROLE = "boundary_reader"
PASSWORD = "a password of the boundary tests"
COLUMNS = "id int, n int, v text, w text, m mood"
FILTER = "id > 4"
# Tables whose names are exchanged, in pairs. `OLDER` has the first of each, `NEWER` the second.
PAIRS = (("one", "two"), ("picked", "masked"), ("parent", "child"))
OLDER = ("one", "picked", "parent", "here.pair", "split_a")
NEWER = ("public.two", "public.masked", "public.child", "there.pair")

RULES = {
    "public.picked": TableRule(where=FILTER),
    "public.masked": TableRule(columns=ColumnRule(mask={"v": "redact", "w": "null"})),
    "near.odd": TableRule(where=FILTER),
    "far.odd": TableRule(where=FILTER),
}
# The row that `near.odd` has more than `far.odd`: taken away after the run that is acted upon, put back before.
ODD_ROW_GONE = "DELETE FROM near.odd WHERE id = 9"
ODD_ROW_BACK = f"{ODD_ROW_GONE}; INSERT INTO near.odd VALUES (9, 2, 'near.odd 9', 'w 9', 'sad')"


class Move(Struct, frozen=True):
    """One transaction of another session. `back` undoes it, if that is possible."""

    there: str
    back: str = ""


class Act(Struct, frozen=True):
    """Moves that are done one after the other. `ready` is done before the first run. An act that `spoils` leaves a
    database in which no other act can be played."""

    moves: tuple[Move, ...]
    ready: str = ""
    spoils: bool = False

    @property
    def can_be_undone(self) -> bool:
        return all(move.back for move in self.moves)


def _filled(table: str, first: int = 1, word: str = "") -> str:
    """Fill a table with its rows, whose values say which table and which filling they are of."""
    return (
        f"INSERT INTO {table} SELECT i, i % 7, '{word or table} ' || i, 'w {word}' || i, 'sad' "
        f"FROM generate_series({first}, {first + ROWS - 1}) i"
    )


_IN_SCHEMAS = ("here.pair", "there.pair", "near.odd", "far.odd")
_PLAIN = ("one", "two", "picked", "masked", "parent", "spare_s", "spare_t", *_IN_SCHEMAS)
_FIRST = {"split_b0": 21, "split_b1": 41, "through_b": 21, "through_c": 41}  # the ids of all others begin at 1
_BOUNDS = {
    "split_a": "FOR VALUES FROM (0) TO (21)",
    "split_b0": "FOR VALUES FROM (21) TO (41)",
    "split_b1": "FOR VALUES FROM (41) TO (61)",
    "through_a": "FOR VALUES FROM (0) TO (21)",
    "through_b": "FOR VALUES FROM (21) TO (41)",
    "through_c": "FOR VALUES FROM (41) TO (61)",
}
_TREE = {
    "split_a": "split", "split_b0": "split_b", "split_b1": "split_b",
    "through_a": "through", "through_b": "through", "through_c": "through",
}  # fmt: skip
_LONG = "ALTER TABLE {0} ALTER v SET STORAGE EXTERNAL; UPDATE {0} SET v = v || repeat(md5(v), 90) WHERE id = 7"

# The role may not read one partition itself, so `through` is read through the parent.
SCENE = ";\n".join(
    [
        *(f"CREATE SCHEMA {schema}" for schema in ("here", "there", "near", "far")),
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        *(f"CREATE TABLE {table} ({COLUMNS})" for table in _PLAIN),
        "CREATE TABLE child () INHERITS (parent)",
        f"CREATE TABLE split ({COLUMNS}) PARTITION BY RANGE (id)",
        "CREATE TABLE split_b PARTITION OF split FOR VALUES FROM (21) TO (61) PARTITION BY RANGE (id)",
        f"CREATE TABLE through ({COLUMNS}) PARTITION BY RANGE (id)",
        *(f"CREATE TABLE {leaf} PARTITION OF {_TREE[leaf]} {bounds}" for leaf, bounds in _BOUNDS.items()),
        *(_filled(table, _FIRST.get(table, 1)) for table in (*_PLAIN, "child", *_BOUNDS)),
        _LONG.format("near.odd"),
        _LONG.format("far.odd"),
        "DELETE FROM far.odd WHERE id = 9",
        f"GRANT USAGE ON SCHEMA here, there, near, far TO {ROLE}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, here, there, near, far TO {ROLE}",
        f"REVOKE SELECT ON through_b FROM {ROLE}",
    ]
)


def _exchanged(kind: str, one: str, two: str) -> Move:
    once = (
        f"ALTER {kind} {one} RENAME TO swap_; ALTER {kind} {two} RENAME TO {one.rpartition('.')[2]}; "
        f"ALTER {kind} swap_ RENAME TO {two.rpartition('.')[2]}"
    )
    return Move(once, once)


def _view(table: str) -> Move:
    """A view takes the table's name: it reads the table, and shows other values under the rows' own xmin and ctid."""
    schema, dot, name = table.rpartition(".")
    hidden = f"{schema}{dot}hidden_{name}"
    return Move(
        f"ALTER TABLE {table} RENAME TO hidden_{name}; CREATE VIEW {table} AS "
        f"SELECT ctid, xmin, id, n, 'seen ' || id AS v, w, m FROM {hidden}; GRANT SELECT ON {table} TO {ROLE}",
        f"DROP VIEW {table}; ALTER TABLE {hidden} RENAME TO {name}",
    )


def _attach(leaf: str) -> str:
    return f"ALTER TABLE {_TREE[leaf]} ATTACH PARTITION {leaf} {_BOUNDS[leaf]}"


def _detach(leaf: str) -> str:
    return f"ALTER TABLE {_TREE[leaf]} DETACH PARTITION {leaf}"


def _replaced(leaf: str, spare: str) -> Move:
    """A leaf and a table exchange their places and their names."""
    names = _exchanged("TABLE", leaf, spare).there
    once = f"{_detach(leaf)}; {names}; {_attach(leaf)}"
    return Move(once, once)


def _refilled(table: str) -> Move:
    return Move(f"TRUNCATE ONLY {table}; {_filled(table, _FIRST.get(table, 1), 'refilled ' + table)}")


def _recreated(table: str) -> Move:
    made = f"PARTITION OF {_TREE[table]} {_BOUNDS[table]}" if table in _TREE else f"({COLUMNS})"
    filled = _filled(table, _FIRST.get(table, 1), "recreated " + table)
    return Move(f"DROP TABLE {table}; CREATE TABLE {table} {made}; {filled}; GRANT SELECT ON {table} TO {ROLE}")


def _columns(table: str) -> Move:
    once = f"ALTER TABLE {table} RENAME v TO x_; ALTER TABLE {table} RENAME w TO v; ALTER TABLE {table} RENAME x_ TO w"
    return Move(once, once)


def _secured(table: str) -> Move:
    return Move(
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY even ON {table} USING (id % 2 = 0)",
        f"DROP POLICY even ON {table}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    )


def _written(table: str) -> Move:
    return Move(
        f"UPDATE {table} SET v = v || '+' WHERE id % 20 = 3; DELETE FROM {table} WHERE id % 20 = 5; "
        f"INSERT INTO {table} SELECT id + 1, n, v, w, m FROM {table} WHERE id % 20 = 4"
    )


_LABELS = (
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'bad'; ALTER TYPE mood RENAME VALUE 'glad' TO 'sad'; "
    "ALTER TYPE mood RENAME VALUE 'bad' TO 'glad'"
)
_HEAPS = ("one", "picked", "masked", "child", "here.pair", "near.odd", "split_a", "through_a")

ACTS: dict[str, Act] = {
    "exchange_tables": Act(tuple(_exchanged("TABLE", *pair) for pair in PAIRS)),
    "exchange_partitioned": Act((_exchanged("TABLE", "through", "spare_t"), _exchanged("TABLE", "split", "spare_s"))),
    "exchange_schemas": Act((_exchanged("SCHEMA", "here", "there"),)),
    "exchange_odd_schemas": Act((_exchanged("SCHEMA", "near", "far"),)),
    "exchange_leaf_names": Act(
        (_exchanged("TABLE", "split_a", "split_b0"), _exchanged("TABLE", "through_a", "through_b"))
    ),
    "replace_leaf": Act((_replaced("split_a", "spare_s"), _replaced("through_a", "spare_t"))),
    "attach": Act(
        tuple(Move(_attach(leaf), _detach(leaf)) for leaf in ("split_b1", "through_c")),
        ready="; ".join(_detach(leaf) for leaf in ("split_b1", "through_c")),
    ),
    "detach": Act(tuple(Move(_detach(leaf), _attach(leaf)) for leaf in ("split_b1", "through_c"))),
    "detach_concurrently": Act(
        tuple(Move(_detach(leaf) + " CONCURRENTLY") for leaf in ("split_b1", "through_c")), spoils=True
    ),
    "view": Act(tuple(map(_view, ("one", "picked", "masked", "here.pair", "near.odd", "split_a")))),
    "refill": Act(tuple(map(_refilled, _HEAPS))),
    "recreate": Act(tuple(map(_recreated, ("one", "picked", "masked", "near.odd", "split_a", "through_a")))),
    "exchange_columns": Act(tuple(map(_columns, ("one", "picked", "masked", "parent", "near.odd", "split")))),
    "exchange_labels": Act((Move(_LABELS, _LABELS),)),
    "vacuum_full": Act(tuple(Move(f"VACUUM FULL {table}") for table in _HEAPS)),
    "unlogged": Act(
        tuple(
            Move(f"ALTER TABLE {table} SET UNLOGGED", f"ALTER TABLE {table} SET LOGGED")
            for table in ("one", "picked", "near.odd", "split_a")
        )
    ),
    "revoke": Act(
        tuple(
            Move(f"REVOKE SELECT ON {table} FROM {ROLE}", f"GRANT SELECT ON {table} TO {ROLE}")
            for table in ("one", "masked", "here.pair", "split_a", "through")
        )
    ),
    "row_security": Act(tuple(map(_secured, ("one", "masked", "here.pair", "split_a", "through")))),
    "write": Act(tuple(map(_written, (*_HEAPS, "two", "there.pair", "far.odd")))),
}  # fmt: skip
