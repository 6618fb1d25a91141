"""The relations of a database, from pg_class, pg_inherits and pg_seclabel, with the facts of the chosen ones.

A run makes a fixed number of queries, whatever the number of tables. The same queries give the facts that depend on the
present and not on the snapshot (rights, sizes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from msgspec import Struct

from floodmark.model import TableName
from floodmark.source.base import NamedRelation
from floodmark.source.selection import CandidateRelation

KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}
OWN_SCHEMA = "floodmark"


class Relation(Struct, frozen=True):
    """A row of pg_class, with the facts that a selection needs. `kind` is relkind.

    `parents` are the relations that it inherits from, if it is no partition.
    """

    oid: int
    table: TableName
    kind: str
    partition: bool
    extension_owned: bool
    parents: Sequence[int] = ()


class RelationDetail(Struct, frozen=True, array_like=True):
    """The other facts of a chosen relation. A right is None if the relation is gone by now.

    `heap_bytes` and `toast_bytes` are present sizes, so no smaller than in the snapshot. If they could not be
    `measured`, heap_bytes is an estimate, perhaps too small, and toast_bytes is None.

    `name_xmin` is the xmin of its row type's row in pg_type. A rename or a move to another schema writes that row, but
    TRUNCATE, GRANT and VACUUM FULL do not. `schema_xmin` is that of its schema's row.
    """

    oid: int
    access_method: int
    persistence: str
    relfilenode: int
    bound: str | None
    may_select: bool | None
    may_select_some: bool | None
    may_use_schema: bool | None
    row_security: bool | None
    heap_bytes: int
    toast_bytes: int | None
    measured: bool = True
    toast: int = 0  # the oid of its TOAST table, 0 if it has none
    name_xmin: str = ""
    schema_xmin: str = ""


class PartitionEdge(Struct, frozen=True, array_like=True):
    """A partition's place under its parent. `pending`: a DETACH CONCURRENTLY began and did not finish."""

    parent: int
    child: int
    pending: bool


class SecurityLabel(Struct, frozen=True, array_like=True):
    """A security label on a relation (column 0) or one of its columns."""

    relation: int
    column: int
    provider: str
    label: str


class Extension(Struct, frozen=True, array_like=True):
    """A row of pg_extension."""

    name: str
    version: str
    oid: int
    xmin: str


class InstalledExtensions(Struct, frozen=True):
    """The installed extensions, and the types and casts that they own, by oid."""

    installed: tuple[Extension, ...]
    types: Mapping[int, Extension]
    casts: Mapping[int, Extension]


class ServerFacts(Struct, frozen=True, array_like=True):
    """The facts of the whole database."""

    version: int
    role: str
    in_recovery: bool
    block_size: int


_RELATIONS = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relispartition,
       EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
               AND d.objsubid = 0 AND d.deptype = 'e'),
       CASE WHEN c.relispartition THEN '{}' ELSE
           ARRAY(SELECT i.inhparent::bigint FROM pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT starts_with(n.nspname, 'pg_toast')"""
# A size query waits for a session that holds the table exclusively; then the planner's page count is used.
_DETAILS = """
WITH held AS MATERIALIZED (
    SELECT relation FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT c.oid, c.relam, c.relpersistence::text, c.relfilenode, c.relpartbound::text,
       has_table_privilege(c.oid, 'SELECT'), has_any_column_privilege(c.oid, 'SELECT'),
       has_schema_privilege(c.relnamespace, 'USAGE'), row_security_active(c.oid),
       coalesce(CASE WHEN s.measurable THEN pg_relation_size(c.oid, 'main') ELSE s.estimate END, 0),
       CASE WHEN c.reltoastrelid = 0 THEN 0 WHEN s.measurable THEN pg_relation_size(c.reltoastrelid, 'main') END,
       s.measurable, c.reltoastrelid, coalesce(y.xmin, c.xmin)::text, n.xmin::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_type y ON y.oid = c.reltype, LATERAL (
    SELECT c.relkind IN ('r', 'm') AND c.oid NOT IN (SELECT relation FROM held) AS measurable,
           greatest(c.relpages, 0) * pg_size_bytes(current_setting('block_size')) AS estimate) s
WHERE c.oid = ANY(%s::oid[])"""
_EDGES = """
SELECT i.inhparent, i.inhrelid, i.inhdetachpending FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') ORDER BY i.inhparent, i.inhrelid"""
_LABELS = """
SELECT objoid, objsubid, provider, label FROM pg_seclabel
WHERE classoid = 'pg_class'::regclass AND objoid = ANY(%s::oid[]) ORDER BY 1, 2, 3"""
_SERVER = """
SELECT current_setting('server_version_num'), current_user::text, pg_is_in_recovery(), current_setting('block_size')"""
_EXTENSIONS = "SELECT extname, extversion, oid, xmin::text FROM pg_extension ORDER BY extname"
_OWNED = """
SELECT classid = 'pg_cast'::regclass, objid, refobjid FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
AND classid IN ('pg_type'::regclass, 'pg_cast'::regclass)"""


_CALLING = """
WITH owned (relation, classid, objid) AS (
    SELECT indrelid, 'pg_class'::regclass, indexrelid FROM pg_index
    WHERE indrelid = ANY(%(oids)s::oid[]) AND (indexprs IS NOT NULL OR indpred IS NOT NULL)
    UNION ALL SELECT stxrelid, 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext
    WHERE stxrelid = ANY(%(oids)s::oid[]))
SELECT DISTINCT o.relation FROM owned o JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.objid
WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384"""


class PartitionTree:
    """Partitions under their parents."""

    def __init__(self, edges: Iterable[PartitionEdge]) -> None:
        self._children: dict[int, list[PartitionEdge]] = {}
        self._parents: dict[int, int] = {}
        for edge in edges:
            self._children.setdefault(edge.parent, []).append(edge)
            self._parents[edge.child] = edge.parent

    def edges(self, root: int) -> Iterator[PartitionEdge]:
        """Yield every edge under a root, in a fixed order. Edges under a pending one are left out."""
        for edge in self._children.get(root, ()):
            yield edge
            if not edge.pending:
                yield from self.edges(edge.child)

    def attached(self, root: int) -> list[int]:
        """Return all partitions under a root by oid, an order that is the same in every run."""
        return sorted(edge.child for edge in self.edges(root) if not edge.pending)

    def parent(self, child: int) -> int:
        """Return the relation that a partition belongs to, or 0 if it is no partition."""
        return self._parents.get(child, 0)

    def pending(self, root: int) -> bool:
        return any(edge.pending for edge in self.edges(root))


def read_relations(connection: psycopg.Connection[Any]) -> dict[int, Relation]:
    """Return every relation that can be a table or a part of one, by oid."""
    rows = connection.execute(_RELATIONS, prepare=False)
    return {row[0]: Relation(row[0], TableName(row[1], row[2]), *row[3:]) for row in rows}


def candidates_of(relations: Mapping[int, Relation]) -> list[CandidateRelation]:
    """Return the candidates for relations, each with the kind of pattern that can pick it."""
    return [_candidate_of(relation, relations) for relation in relations.values()]


def _candidate_of(relation: Relation, relations: Mapping[int, Relation]) -> CandidateRelation:
    table = relation.table
    if relation.partition:
        return CandidateRelation(table, "never", "a partition: its rows come with the table it belongs to")
    if relation.extension_owned:
        return CandidateRelation(table, "exact", "part of an extension", "extension table")
    if relation.kind not in "rp":
        return CandidateRelation(table, "exact", f"a {KINDS[relation.kind]}", KINDS[relation.kind])
    if table.schema == OWN_SCHEMA:
        return CandidateRelation(table, "schema", "Floodmark's own", "Floodmark table")
    parents = tuple(relations[oid].table for oid in relation.parents if oid in relations)
    return CandidateRelation(table, parents=parents)


def read_existing(connection: psycopg.Connection[Any], names: Iterable[TableName]) -> dict[TableName, NamedRelation]:
    """Return the relations with these names."""
    relations, tree, wanted = read_relations(connection), read_tree(connection), set(names)
    return {
        relation.table: _named_relation(relation, relations.get(tree.parent(relation.oid)))
        for relation in relations.values()
        if relation.table in wanted
    }


def _named_relation(relation: Relation, parent: Relation | None) -> NamedRelation:
    if relation.partition:
        return NamedRelation("part", "a partition" if parent is None else f"a partition of {parent.table.label}")
    if relation.kind not in "rp":
        return NamedRelation("other", f"a {KINDS[relation.kind]}")
    return NamedRelation("owned", "part of an extension") if relation.extension_owned else NamedRelation()


def read_details(connection: psycopg.Connection[Any], oids: Iterable[int]) -> dict[int, RelationDetail]:
    return {row[0]: RelationDetail(*row) for row in connection.execute(_DETAILS, [list(oids)], prepare=False)}


def read_tree(connection: psycopg.Connection[Any]) -> PartitionTree:
    return PartitionTree(PartitionEdge(*row) for row in connection.execute(_EDGES, prepare=False))


def read_labels(connection: psycopg.Connection[Any], oids: Iterable[int]) -> Mapping[int, list[SecurityLabel]]:
    """Return the security labels on each relation that has any."""
    labels: dict[int, list[SecurityLabel]] = {}
    for row in connection.execute(_LABELS, [list(oids)], prepare=False):
        labels.setdefault(row[0], []).append(SecurityLabel(*row))
    return labels


def read_calling(connection: psycopg.Connection[Any], oids: Iterable[int]) -> frozenset[int]:
    """Return the relations with an index or statistics that call a user's function or operator."""
    return frozenset(row[0] for row in connection.execute(_CALLING, {"oids": list(oids)}, prepare=False))


def read_server(connection: psycopg.Connection[Any]) -> ServerFacts:
    ((version, role, in_recovery, block_size),) = connection.execute(_SERVER, prepare=False).fetchall()
    return ServerFacts(int(version), role, in_recovery, int(block_size))


def read_extensions(connection: psycopg.Connection[Any]) -> InstalledExtensions:
    found = {row[2]: Extension(*row) for row in connection.execute(_EXTENSIONS, prepare=False)}
    types: dict[int, Extension] = {}
    casts: dict[int, Extension] = {}
    for is_cast, owned, owner in connection.execute(_OWNED, prepare=False):
        (casts if is_cast else types)[owned] = found[owner]
    return InstalledExtensions(tuple(found.values()), types, casts)
