"""The tables of a run, read from PostgreSQL's catalog: columns, parts, fingerprint, and the limits of reads and proofs.

A fixed number of queries in the caller's transaction reads everything, and this module combines the results.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import psycopg

from floodmark.config import Selection, TableRule
from floodmark.errors import ConfigError
from floodmark.model import Fingerprint, TableName, commented
from floodmark.observed import Part, TableInfo
from floodmark.source.keys import NO_KEYS
from floodmark.source.postgres import fingerprint, proof
from floodmark.source.postgres.columns import (
    ExtractedColumn,
    composite_attributes,
    extracted_columns,
    unapproved_columns,
)
from floodmark.source.postgres.family import (
    CatalogContext,
    FamilyMember,
    TableFamily,
    denial_of,
    table_doubt,
    through_parent,
    watched_column,
)
from floodmark.source.postgres.fingerprint import TableDefinition
from floodmark.source.postgres.identity import ExpectedReads
from floodmark.source.postgres.relations import (
    KINDS,
    Relation,
    candidates_of,
    read_calling,
    read_details,
    read_extensions,
    read_labels,
    read_relations,
    read_server,
    read_tree,
)
from floodmark.source.postgres.remarks import NO_REMARKS, keys_in_lines, read_remarks
from floodmark.source.postgres.statements import PgTable
from floodmark.source.postgres.types import read_attributes, read_types
from floodmark.source.postgres.wire import wire_columns
from floodmark.source.selection import TableChoice, choose_tables, exact_pattern, rules_by_table

DEFAULT_SCHEMA = "public"
# Characters. A group of blocks holds up to 2,328 rows, and JSON can write such a value about 40 times as long.
MOST_SHARED = 256
# bool, int8, int2, int4, float4, float8, date, time, timestamp, timestamptz, uuid: no expression makes these large.
FIXED_SIZE = frozenset((16, 20, 21, 23, 700, 701, 1082, 1083, 1114, 1184, 2950))


def read_tables(
    connection: psycopg.Connection[Any],
    selection: Selection,
    encoding_digest: str,
    only: Collection[TableName] | None = None,
) -> tuple[TableChoice, list[PgTable]]:
    """Return the choice, and the selected tables, ordered by name, as the transaction's snapshot shows them.

    If `only` some tables are of interest, the others are not returned.
    Raises ConfigError for a pattern that selects nothing, a rule without its table or column, and a hash mask without a
    key.
    """
    relations = read_relations(connection)
    candidates = candidates_of(relations)
    rules = rules_by_table(candidates, selection, DEFAULT_SCHEMA)
    choice = choose_tables(candidates, selection, DEFAULT_SCHEMA)
    wanted_tables = choice.tables if only is None else [table for table in choice.tables if table in only]
    families = _read_families(connection, relations, wanted_tables)
    members = [member for family in families for member in family.members]
    wanted = {a.type for member in members for a in member.attributes if not a.dropped}
    extensions = read_extensions(connection)
    types = read_types(connection, wanted, extensions)
    calling = read_calling(connection, [member.relation.oid for member in members])
    remarks = read_remarks(connection, [family.root.relation.oid for family in families])
    inherited = frozenset(parent for relation in relations.values() for parent in relation.parents)
    server = read_server(connection)
    context = CatalogContext(server, calling, extensions, types, selection, encoding_digest, remarks, inherited)
    rule_of = {family.root.relation.table: rules.get(family.root.relation.table, TableRule()) for family in families}
    return choice, [_read_table(family, rule_of[family.root.relation.table], context) for family in families]


def _read_families(
    connection: psycopg.Connection[Any], relations: Mapping[int, Relation], chosen: Iterable[TableName]
) -> list[TableFamily]:
    by_name = {relation.table: relation for relation in relations.values()}
    tree = read_tree(connection)
    roots = [by_name[table] for table in chosen]
    below = {root.oid: tree.attached(root.oid) for root in roots}
    oids = [oid for root in roots for oid in (root.oid, *below[root.oid])]
    members = _read_members(connection, relations, oids)
    return [
        TableFamily(members[root.oid], [members[oid] for oid in below[root.oid]], list(tree.edges(root.oid)))
        for root in roots
    ]


def _read_members(
    connection: psycopg.Connection[Any], relations: Mapping[int, Relation], oids: list[int]
) -> dict[int, FamilyMember]:
    details = read_details(connection, oids)
    attributes = read_attributes(connection, oids)
    labels = read_labels(connection, oids)
    return {oid: FamilyMember(relations[oid], details[oid], attributes[oid], labels.get(oid, [])) for oid in oids}


def _read_table(family: TableFamily, rule: TableRule, context: CatalogContext) -> PgTable:
    root = family.root.relation
    columns = extracted_columns(root.table, family.root.attributes, rule, context.types)
    hashes = any(c.mask == "hash" for c in columns)
    if hashes and context.selection.mask_key is None:
        raise ConfigError(
            "can't use a hash mask", why="it needs a key", on=f"tables.rules: {exact_pattern(root.table)}"
        )
    reads = _expected_reads(family, columns, rule, context)
    named = frozenset(one.root for one in reads.values() if one.measured or not one.exact)
    definition = fingerprint.table_definition(
        [fingerprint.of_database(context.server.version), *_facts(family.root, context, named)], None
    )
    remarks = context.remarks.get(root.oid, NO_REMARKS)
    watched = watched_column(family, rule, context)
    # Without ONLY, rows of inheritance children come too, which a key does not span. `detect: column` misses changes.
    own_rows = root.oid not in context.inherited or all(one.only for one in reads.values())
    keys = keys_in_lines(remarks, columns, context.types) if own_rows and watched is None else NO_KEYS
    info = TableInfo(
        table=root.table,
        oid=root.oid,
        kind=KINDS[root.kind],
        columns=tuple(commented(c.column, remarks.comments.get(c.attribute.number)) for c in columns),
        parts=_table_parts(family, columns, rule, context, definition, named),
        fingerprint=_table_fingerprint(definition, columns, rule, context),
        denied=denial_of(family, context.server),
        watched=watched,
        primary_key=keys.primary,
        unique_keys=keys.unique,
        comment=remarks.comments.get(0),
        masked=tuple(c.column.name for c in columns if c.mask is not None),
        unapproved=unapproved_columns(family.root.attributes, rule, context.types),
        attributes=composite_attributes(family.root.attributes, context.types),
    )
    return PgTable(
        info=info,
        columns_sql=tuple(c.sql for c in columns),
        where=rule.where,
        raw_newlines=any(c.mask is None and context.types.raw_newlines(c.attribute.type) for c in columns),
        reads=reads,
        wire=wire_columns(columns, context.types),
        journal=(rule.detect or context.selection.detect) == "journal",
        hashes=hashes,
    )


def _facts(member: FamilyMember, context: CatalogContext, named: frozenset[int]) -> list[Any]:
    """Return the facts that define the lines of one member, apart from those of the members above it.

    The transaction that gave the member its name counts only if the member is one of `named`. Such a member is read by
    its name, and the locks can't show which relation that was.
    """
    relation = fingerprint.of_relation(member.relation, member.detail, member.attributes, member.labels)
    names = fingerprint.of_names(member.detail, member.relation.oid in named)
    return [relation, names, fingerprint.of_types(context.types, member.attributes)]


def _table_fingerprint(
    definition: TableDefinition, columns: tuple[ExtractedColumn, ...], rule: TableRule, context: CatalogContext
) -> Fingerprint:
    selection = context.selection
    mode = rule.detect or selection.detect
    detect = (mode, rule.column if mode == "column" else None)
    config = fingerprint.config_digest(columns, rule.where, detect, selection.mask_key, context.encoding_digest)
    return Fingerprint(definition.schema, config, fingerprint.GUARDS)


def _table_parts(
    family: TableFamily,
    columns: tuple[ExtractedColumn, ...],
    rule: TableRule,
    context: CatalogContext,
    above: TableDefinition,
    named: frozenset[int],
) -> tuple[Part, ...]:
    """Return the relations to read.

    If the partitions can't be read and proven separately, all rows come through the parent.
    """
    doubt = table_doubt(family, columns, rule, context)
    block_size = context.server.block_size
    relocated = proof.of_extensions(context.extensions.installed)
    whole = through_parent(family, columns, rule)
    if whole is not None:
        tree = fingerprint.of_tree(family.edges, [m.detail for m in family.members])
        facts = [tree, *(_facts(member, context, named) for member in family.partitions)]
        return (_whole_table(family, whole, block_size, fingerprint.table_definition(facts, above)),)
    return tuple(
        _storage_part(m, doubt, relocated, block_size, _own_definition(m, family, context, above, named))
        for m in family.holders
    )


def _expected_reads(
    family: TableFamily, columns: tuple[ExtractedColumn, ...], rule: TableRule, context: CatalogContext
) -> dict[str, ExpectedReads]:
    """Return the locks that a statement about each part must take: see `identity.Reads`."""
    beyond = (
        proof.of_labels(label for member in family.members for label in member.labels)
        or proof.of_extensions(context.extensions.installed)
        or proof.of_columns(columns, context.types)
        or proof.of_filter(rule.where, family.root.attributes, context.types)
    )
    relocated = proof.of_extensions(context.extensions.installed) is not None
    if through_parent(family, columns, rule) is None:
        return {str(m.relation.oid): _reads_of_one(m, context, beyond is None, relocated) for m in family.holders}
    root = family.root.relation.oid
    return {
        str(root): ExpectedReads(
            root,
            below=frozenset(m.relation.oid for m in family.partitions),
            all_below=rule.where is None,
            exact=beyond is None
            and all(m.relation.kind in "rp" and m.relation.oid not in context.calling for m in family.members),
            only=False,
            parent=True,
            toast=frozenset(m.detail.toast for m in family.holders),
        )
    }


def _reads_of_one(member: FamilyMember, context: CatalogContext, exact: bool, relocated: bool) -> ExpectedReads:
    kind = member.relation.kind
    return ExpectedReads(
        member.relation.oid,
        exact=exact and kind in "rm" and member.detail.access_method == proof.HEAP,
        only=kind in "rf" and not relocated,
        measured=member.relation.oid in context.calling,
        toast=frozenset({member.detail.toast}),
    )


def _own_definition(
    member: FamilyMember, family: TableFamily, context: CatalogContext, above: TableDefinition, named: frozenset[int]
) -> TableDefinition:
    """Return the definition of a part that is read by itself: a leaf has the root's and its own."""
    if member is family.root:
        return TableDefinition("", above.stamp)
    return fingerprint.table_definition(_facts(member, context, named), above)


def _storage_part(
    member: FamilyMember, doubt: str | None, relocated: str | None, block_size: int, definition: TableDefinition
) -> Part:
    storage = proof.of_storage(member.relation, member.detail)
    return Part(
        id=str(member.relation.oid),
        table=member.relation.table,
        relfilenode=member.detail.relfilenode,
        heap_blocks=-(-member.detail.heap_bytes // block_size),
        total_bytes=_bytes_of(member),
        by_block=_in_heap(member) and relocated is None,
        no_proof=doubt or relocated or storage,
        narrow=_is_narrow(member),
        measured=member.detail.measured,
        fingerprint=definition.schema,
        stamp=definition.stamp,
        logged=member.detail.persistence == "p",
    )


def _is_narrow(member: FamilyMember) -> bool:
    """Return True if all of a row's values come from its block.

    Small values that rows from before a new column share do not count.
    """
    present = [attribute for attribute in member.attributes if not attribute.dropped]
    shared = sum(len(attribute.missing or "") for attribute in present)
    computed = any(attribute.generated == "v" and attribute.type not in FIXED_SIZE for attribute in present)
    return member.detail.toast_bytes == 0 and shared <= MOST_SHARED and not computed


def _whole_table(family: TableFamily, why: str, block_size: int, definition: TableDefinition) -> Part:
    return Part(
        id=str(family.root.relation.oid),
        table=family.root.relation.table,
        relfilenode=family.root.detail.relfilenode,
        heap_blocks=sum(-(-m.detail.heap_bytes // block_size) for m in family.holders),
        total_bytes=sum(_bytes_of(m) for m in family.holders),
        by_block=False,
        no_proof=why,
        fingerprint=definition.schema,
        stamp=definition.stamp,
    )


def _bytes_of(member: FamilyMember) -> int:
    return member.detail.heap_bytes + (member.detail.toast_bytes or 0)


def _in_heap(member: FamilyMember) -> bool:
    return member.relation.kind == "r" and member.detail.access_method == proof.HEAP
