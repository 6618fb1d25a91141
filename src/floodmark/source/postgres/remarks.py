"""Keys and comments of tables, from pg_index and pg_description. They describe a table, and shape none of its lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from msgspec import Struct

from floodmark.source.keys import NO_KEYS, DeclaredKey, LandedKeys, keeps_apart, landed_keys
from floodmark.source.postgres.columns import ExtractedColumn
from floodmark.source.postgres.types import TypeCatalog


class Remarks(Struct, frozen=True):
    """The keys of a relation, by column numbers, and its comments, by column number. 0 is the relation itself."""

    keys: list[tuple[tuple[int, ...], bool]]
    comments: dict[int, str]


NO_REMARKS = Remarks([], {})

# A deferrable key counts: it holds whenever a transaction commits, and a snapshot shows nothing else. An index for an
# exclusion constraint does not, and WITHOUT OVERLAPS is one: its columns can be equal in rows that don't overlap.
_REMARKS = """
SELECT i.indrelid, i.indnkeyatts::int, i.indkey::text, i.indisprimary FROM pg_index i
WHERE i.indrelid = ANY(%(oids)s::oid[]) AND i.indisunique AND i.indisvalid AND NOT i.indisexclusion
  AND i.indpred IS NULL AND i.indexprs IS NULL
UNION ALL
SELECT d.objoid, d.objsubid, d.description, NULL FROM pg_description d
WHERE d.objoid = ANY(%(oids)s::oid[]) AND d.classoid = 'pg_class'::regclass"""


def read_remarks(connection: psycopg.Connection[Any], oids: Iterable[int]) -> Mapping[int, Remarks]:
    """Return the keys and comments of each relation that has any."""
    found: dict[int, Remarks] = {}
    for oid, number, text, primary in connection.execute(_REMARKS, {"oids": list(oids)}, prepare=False):
        remarks = found.get(oid)
        if remarks is None:
            remarks = found[oid] = Remarks([], {})
        if primary is None:
            remarks.comments[number] = text
        else:
            remarks.keys.append((tuple(map(int, text.split()[:number])), primary))
    return found


def keys_in_lines(remarks: Remarks, columns: Iterable[ExtractedColumn], types: TypeCatalog) -> LandedKeys:
    """Return the keys that hold in the lines: those of extracted columns that keep different values apart."""
    if not remarks.keys:
        return NO_KEYS
    names = {one.attribute.number: one.attribute.name for one in columns if _tells_apart(one, types)}
    held = [(numbers, primary) for numbers, primary in remarks.keys if all(number in names for number in numbers)]
    declared = (DeclaredKey(tuple(names[number] for number in numbers), primary) for numbers, primary in held)
    return landed_keys(declared, names.values())


def _tells_apart(column: ExtractedColumn, types: TypeCatalog) -> bool:
    return keeps_apart(column.mask) and types.tells_apart(column.attribute.type, as_text=column.mask is not None)
