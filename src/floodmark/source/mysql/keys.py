"""Unique keys, from information_schema.STATISTICS: those that can order rows, and those that the server enforces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from floodmark.source.keys import DeclaredKey

PART_ORDER = " ORDER BY TABLE_NAME, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
# Others, such as MERGE and FEDERATED, do not enforce the keys of their tables.
_ENFORCING = frozenset({"InnoDB", "MyISAM", "Aria", "MEMORY"})


class KeyPart(Struct, frozen=True):
    """A column of a unique key, as information_schema describes it. An expression has no column."""

    column: str | None
    order: str | None
    prefix: int | None
    nullable: str | None
    kind: str


def unique_parts(connection: Connection) -> str:
    """Return the question about the parts of all unique keys that a statement may name."""
    return (
        "SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, COLLATION, SUB_PART, NULLABLE, INDEX_TYPE "
        f"FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = %s AND NON_UNIQUE = 0{_only_usable(connection)}"
    )


def _only_usable(connection: Connection) -> str:
    """Return the condition that leaves out an index which the optimizer must not use, and no statement may name."""
    rows = connection.exec_driver_sql(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' "
        "AND TABLE_NAME = 'STATISTICS' AND COLUMN_NAME IN ('IGNORED', 'IS_VISIBLE')"
    ).all()
    return "".join(f" AND {name} = '{'NO' if name == 'IGNORED' else 'YES'}'" for (name,) in rows)


def key_parts(rows: Iterable[Sequence[Any]]) -> Mapping[str, Mapping[str, Sequence[KeyPart]]]:
    """Return the columns of each table's unique keys, by the key's name, the primary key first."""
    found: dict[str, dict[str, list[KeyPart]]] = defaultdict(dict)
    for of, index, *part in rows:
        found[of].setdefault(str(index), []).append(KeyPart(*part))
    return found


def usable_keys(parts: Mapping[str, Sequence[KeyPart]]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Return the keys without NULL and without prefixes of columns, which can order rows."""
    return tuple(
        (index, tuple((str(one.column), one.order == "D") for one in key))
        for index, key in parts.items()
        if all(one.column and not one.prefix and one.nullable != "YES" and one.kind == "BTREE" for one in key)
    )


def declared_keys(parts: Mapping[str, Sequence[KeyPart]], engine: str | None) -> tuple[DeclaredKey, ...]:
    """Return the keys that the server enforces on columns. If the prefixes of values differ, so do the values."""
    if engine not in _ENFORCING:
        return ()
    return tuple(
        DeclaredKey(tuple(str(one.column) for one in key), index == "PRIMARY")
        for index, key in parts.items()
        if all(one.column and one.kind in ("BTREE", "HASH") for one in key)
    )
