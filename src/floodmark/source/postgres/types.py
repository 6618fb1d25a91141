"""The types that a database's columns reach: read once in a run, as facts for the fingerprint and for proof.

Change can be proven through a type whose output depends only on its stored bytes (and on the pinned settings). That is
an allow-list: the built-ins named here, and enums, domains, composites, arrays, ranges and multiranges made of such
types. An enum's labels and a composite's attributes are catalog rows; the fingerprint holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import psycopg
from msgspec import Struct

from floodmark.source.postgres.filters import Kind
from floodmark.source.postgres.relations import InstalledExtensions
from floodmark.source.selection import pattern_part

FIRST_USER_OID = 16384
JSON = 114
TEXT = 25

# Excluded, with the reason: reg* (they print the present name of the object that they refer to), aclitem (role names),
# pg_node_tree, gtsvector, pg_ndistinct and the other statistics types (no user column holds them), pseudo-types. xml
# needs no lookup. Pinned settings control other output: money by lc_monetary, float by extra_float_digits, the dates by
# DateStyle, IntervalStyle and TimeZone, bytea by bytea_output.
_STABLE_NAMES = """
    bit bool box bpchar bytea char cid cidr circle date float4 float8 inet int2 int2vector int4 int8 interval
    json jsonb jsonpath line lseg macaddr macaddr8 money name numeric oid oidvector path pg_lsn pg_snapshot
    point polygon refcursor text tid time timestamp timestamptz timetz tsquery tsvector txid_snapshot uuid
    varbit varchar xid xid8 xml"""
STABLE = frozenset(_STABLE_NAMES.split())
_FILTER_KINDS: dict[str, Kind] = {
    "bool": "bool",
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float4", "float8", "oid"), "number"),
    **dict.fromkeys(("text", "varchar", "bpchar"), "text"),
    **dict.fromkeys(("date", "timestamp", "timestamptz"), "datetime"),
    "uuid": "other",
}
# The types that the native encoder knows, by its names for them.
_WIRE_KINDS = {
    **{name: name for name in ("bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "json", "jsonb")},
    **{name: name for name in ("uuid", "date", "time", "timetz", "timestamp", "timestamptz", "interval", "bytea")},
    **dict.fromkeys(("text", "varchar", "bpchar", "name"), "text"),
    "char": "char",
}
_C_COLLATIONS = (950, 951)  # C and POSIX


class Attribute(Struct, frozen=True, array_like=True):
    """A row of pg_attribute. `missing` is the value of rows from before the column; `xmin` is the row's own."""

    relation: int
    number: int
    name: str
    type: int
    typmod: int
    type_name: str | None
    dropped: bool
    generated: str
    not_null: bool
    collation: int
    missing: str | None
    xmin: str


class PgType(Struct, frozen=True, array_like=True):
    """A row of pg_type, with its row of pg_range if it has one. 0 means that there is no such type or relation."""

    oid: int
    name: str
    schema: str
    kind: str  # typtype: b, c, d, e, m, p, r
    element: int
    element_array: int  # the true array type of `element`
    base: int
    relation: int
    output: int
    subtype: int  # of a range; for a multirange, its range
    xmin: str
    range_xmin: str | None


class EnumLabel(Struct, frozen=True, array_like=True):
    """A row of pg_enum."""

    oid: int
    label: str
    xmin: str


class TypeCast(Struct, frozen=True, array_like=True):
    """A cast that is not PostgreSQL's own."""

    oid: int
    source: int
    target: int
    function: int
    context: str
    method: str
    xmin: str


_ATTRIBUTES = """
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod,
       CASE WHEN NOT a.attisdropped THEN format_type(a.atttypid, a.atttypmod) END,
       a.attisdropped, a.attgenerated::text, a.attnotnull, a.attcollation, a.attmissingval::text, a.xmin::text
FROM pg_attribute a WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 ORDER BY a.attrelid, a.attnum"""
_TYPES = """
SELECT t.oid, t.typname, n.nspname, t.typtype::text, t.typelem, coalesce(e.typarray, 0), t.typbasetype,
       t.typrelid, t.typoutput::oid, coalesce(r.rngsubtype, m.rngtypid, 0), t.xmin::text,
       coalesce(r.xmin, m.xmin)::text,
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END, t.typsend::oid
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem
LEFT JOIN pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
WHERE t.oid = ANY(%s::oid[])"""
_ENUMS = """
SELECT enumtypid, oid, enumlabel, xmin::text FROM pg_enum WHERE enumtypid = ANY(%s::oid[])
ORDER BY enumtypid, enumsortorder"""
_CASTS = f"""
SELECT oid, castsource, casttarget, castfunc, castcontext::text, castmethod::text, xmin::text
FROM pg_cast WHERE oid >= {FIRST_USER_OID} ORDER BY oid"""
_COLLATIONS = "SELECT oid FROM pg_collation WHERE NOT collisdeterministic"


class TypeCatalog:
    """The types that some columns reach, as one snapshot shows them."""

    def __init__(
        self,
        types: dict[int, PgType],
        attributes: dict[int, list[Attribute]],
        labels: dict[int, list[EnumLabel]],
        casts: list[TypeCast],
        unruly_collations: frozenset[int],
        base_names: dict[int, str],
        extensions: InstalledExtensions,
        sends: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self._types, self._attributes, self._labels, self._casts = types, attributes, labels, casts
        self._base_names, self._extensions, self._sends = base_names, extensions, sends
        self._unruly_collations = unruly_collations
        self._to_json = {c.source for c in casts if c.target == JSON}
        self._to_text = {c.source for c in casts if c.target == TEXT}
        self._cast = {c.source for c in casts} | {c.target for c in casts}
        self.recast_builtins = any(max(c.source, c.target) < FIRST_USER_OID for c in casts)
        self.closure = cache(self._types_within)
        self.unstable = cache(self._unstable)
        self.raw_newlines = cache(self._raw_newlines)
        self.attributes = cache(self._attribute_names)
        self.facts = cache(self._facts)
        self.wire_kind = cache(self._wire_kind)
        self.encoded = dict[frozenset[int], Any]()  # by the types of columns: for `fingerprint`

    def unstable_as_text(self, oid: int) -> str | None:
        """Return why `value::text` depends on more than stored bytes, or None: a cast can be the user's own."""
        base = self._base(oid)
        if base in self._to_text:
            return f"{self._label(base)} has a cast to text of its own"
        return self.unstable(oid)

    def base_name(self, oid: int) -> str | None:
        """Return the type below a domain, through any number of domains, with its length or precision; else None."""
        name = None
        while self._types[oid].kind == "d":
            name, oid = self._base_names[oid], self._types[oid].base
        return name

    def _wire_kind(self, oid: int) -> str:
        """Return the native encoder's name for a type, or "raw" if it does not know it.

        row_to_json uses a user's cast from an enum to json, so such an enum is raw.
        """
        if not 0 < self._sends.get(oid, 0) < FIRST_USER_OID:
            return "raw"
        base = self._types[self._base(oid)]
        if _is_array(base):
            element = self._types[self._base(base.element)]
            kind = "raw" if _is_array(element) else self.wire_kind(base.element)
            return "raw" if kind in ("raw", "char") else f"array:{kind}"
        if base.kind == "e":
            return "raw" if base.oid in self._to_json else "text"
        return _WIRE_KINDS.get(base.name, "raw") if _is_builtin(base) and base.kind == "b" else "raw"

    def filter_kind(self, attribute: Attribute) -> Kind | None:
        """Return the kind of a column in a provable filter, or None if such a filter can't use it."""
        kind = self._types[attribute.type]
        if kind.kind == "e":
            return None if kind.oid in self._cast else "other"
        found = _FILTER_KINDS.get(kind.name) if _is_builtin(kind) else None
        if attribute.collation in self._unruly_collations:
            return None
        return "ctext" if found == "text" and attribute.collation in _C_COLLATIONS else found

    def tells_apart(self, oid: int, *, as_text: bool) -> bool:
        """Return True if different values of a key are different in lines, by their JSON or by their text.

        JSON leaves out an array's bounds, and a user's cast can make anything of a value.
        """
        if as_text:
            return self._base(oid) not in self._to_text
        return not any(part in self._to_json or _is_array(self._types[part]) for part in self.closure(oid))

    def _types_within(self, oid: int) -> frozenset[int]:
        """Return the type and all types that it is made of."""
        seen, waiting = set[int](), [oid]
        while waiting:
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                waiting += self._parts(current)
        return frozenset(seen)

    def _parts(self, oid: int) -> list[int]:
        return _parts(self._types[oid], self._attributes)

    def _unstable(self, oid: int) -> str | None:
        """Return why the type's output depends on more than stored bytes, or None."""
        return next(
            (why for part in sorted(self.closure(oid)) if (why := self._unproven_type(self._types[part]))), None
        )

    def _unproven_type(self, kind: PgType) -> str | None:
        if kind.oid >= FIRST_USER_OID and kind.oid in self._to_json:
            return f"{self._label(kind.oid)} has a cast to json, which row_to_json uses"
        if any(a.generated == "v" for a in self._attributes.get(kind.relation, ())):
            return f"{self._label(kind.oid)} contains a virtual generated column"
        if _is_stable_builtin(kind) or kind.kind in "cdemr" or _is_array(kind):
            return None
        if _is_builtin(kind):
            return f"the output of {kind.name} depends on more than the row"
        return f"{self._label(kind.oid)} is not a built-in, and its output function can be replaced"

    def _attribute_names(self, oid: int) -> tuple[str, ...]:
        """Return the attributes of a composite type, also in an array or a domain: `a`, and `a.b` for one within it."""
        kind = self._types[oid]
        if _is_stable_builtin(kind):
            return ()
        found = [name for part in (kind.element, kind.base, kind.subtype) if part for name in self.attributes(part)]
        for one in self._attributes.get(kind.relation, ()):
            if not one.dropped:
                name = pattern_part(one.name)
                found += [name, *(f"{name}.{inner}" for inner in self.attributes(one.type))]
        return tuple(found)

    def _raw_newlines(self, oid: int) -> bool:
        """Return True if a value in JSON can hold a newline: json keeps its newlines."""
        return any(part == JSON or part in self._to_json for part in self.closure(oid))

    def _facts(self, oid: int) -> tuple[Any, ...]:
        """Return all facts of the catalog about this one type, for the fingerprint."""
        kind = self._types[oid]
        casts = [c for c in self._casts if c.source == oid and c.target in (JSON, TEXT)]
        found = [self._extensions.types.get(oid), *(self._extensions.casts.get(c.oid) for c in casts)]
        owners = [owner for owner in found if owner is not None]
        return kind, self._attributes.get(kind.relation, ()), self._labels.get(oid, ()), casts, owners

    def _base(self, oid: int) -> int:
        while self._types[oid].kind == "d":
            oid = self._types[oid].base
        return oid

    def _label(self, oid: int) -> str:
        kind = self._types[oid]
        return f"type {kind.schema}.{kind.name}"


def read_attributes(connection: psycopg.Connection[Any], relations: Iterable[int]) -> dict[int, list[Attribute]]:
    """Return the columns of each relation, including dropped ones, in order."""
    found: dict[int, list[Attribute]] = {oid: [] for oid in relations}
    for row in connection.execute(_ATTRIBUTES, [list(found)], prepare=False):
        found[row[0]].append(Attribute(*row))
    return found


def read_types(
    connection: psycopg.Connection[Any], wanted: Iterable[int], extensions: InstalledExtensions
) -> TypeCatalog:
    """Return the wanted types and all types that they reach, with one round of queries for each level of nesting."""
    types: dict[int, PgType] = {}
    base_names: dict[int, str] = {}  # kept apart from the types, which go into fingerprints unchanged
    sends: dict[int, int] = {}  # likewise
    attributes: dict[int, list[Attribute]] = {}
    missing = set(wanted)
    while missing:
        rows = connection.execute(_TYPES, [sorted(missing)], prepare=False).fetchall()
        level = [PgType(*row[:-2]) for row in rows]
        types |= {kind.oid: kind for kind in level}
        base_names |= {row[0]: row[-2] for row in rows if row[-2] is not None}
        sends |= {row[0]: row[-1] for row in rows}
        relations = {kind.relation for kind in level if kind.relation}
        attributes |= read_attributes(connection, relations) if relations else {}
        missing = {part for kind in level for part in _parts(kind, attributes)} - types.keys()
    labels: dict[int, list[EnumLabel]] = {}
    for owner, *label in connection.execute(_ENUMS, [sorted(types)], prepare=False):
        labels.setdefault(owner, []).append(EnumLabel(*label))
    casts = [TypeCast(*row) for row in connection.execute(_CASTS, prepare=False)]
    unruly = frozenset(row[0] for row in connection.execute(_COLLATIONS, prepare=False))
    return TypeCatalog(types, attributes, labels, casts, unruly, base_names, extensions, sends)


def _parts(kind: PgType, attributes: dict[int, list[Attribute]]) -> list[int]:
    if _is_stable_builtin(kind):
        return []
    fields = [a.type for a in attributes.get(kind.relation, ()) if not a.dropped]
    return [part for part in (kind.element, kind.base, kind.subtype, *fields) if part]


def _is_builtin(kind: PgType) -> bool:
    return kind.oid < FIRST_USER_OID and kind.schema == "pg_catalog"


def _is_stable_builtin(kind: PgType) -> bool:
    return _is_builtin(kind) and kind.kind == "b" and kind.name in STABLE


def _is_array(kind: PgType) -> bool:
    return kind.element != 0 and kind.element_array == kind.oid
