"""A table with its partitions, and what the catalog says of it: rights, doubts, and the way to read it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from floodmark.config import Selection, TableRule
from floodmark.source.postgres import proof
from floodmark.source.postgres.columns import ExtractedColumn
from floodmark.source.postgres.relations import (
    InstalledExtensions,
    PartitionEdge,
    Relation,
    RelationDetail,
    SecurityLabel,
    ServerFacts,
)
from floodmark.source.postgres.remarks import Remarks
from floodmark.source.postgres.types import Attribute, TypeCatalog
from floodmark.source.quoting import qualified, quoted
from floodmark.source.selection import require_column


class FamilyMember(Struct, frozen=True):
    """A relation that belongs to a table: the table itself, or a partition at any depth."""

    relation: Relation
    detail: RelationDetail
    attributes: list[Attribute]
    labels: list[SecurityLabel]

    @property
    def holds_rows(self) -> bool:
        return self.relation.kind != "p"


class TableFamily(Struct, frozen=True):
    """A table and its attached partitions, by oid."""

    root: FamilyMember
    partitions: list[FamilyMember]
    edges: list[PartitionEdge]

    @property
    def members(self) -> list[FamilyMember]:
        return [self.root, *self.partitions]

    @property
    def holders(self) -> list[FamilyMember]:
        """Return the members that hold rows."""
        return [member for member in self.members if member.holds_rows]


class CatalogContext(Struct, frozen=True):
    """The facts that all tables of a run share. `calling` are relations whose planning can call a user's function.

    `inherited` are relations from which others inherit that are no partitions.
    """

    server: ServerFacts
    calling: frozenset[int]
    extensions: InstalledExtensions
    types: TypeCatalog
    selection: Selection
    encoding_digest: str
    remarks: Mapping[int, Remarks]
    inherited: frozenset[int]


def table_doubt(
    family: TableFamily, columns: tuple[ExtractedColumn, ...], rule: TableRule, context: CatalogContext
) -> str | None:
    """Return why no part of the table can be proven unchanged, or None."""
    mode = rule.detect or context.selection.detect
    doubt = (
        proof.of_mode(mode)
        or proof.of_detach(any(edge.pending for edge in family.edges))
        or proof.of_labels(label for member in family.members for label in member.labels)
    )
    if doubt is not None or mode == "column":
        return doubt
    return proof.of_columns(columns, context.types) or proof.of_filter(
        rule.where, family.root.attributes, context.types
    )


def watched_column(family: TableFamily, rule: TableRule, context: CatalogContext) -> str | None:
    """Return the column that `detect: column` uses."""
    if (rule.detect or context.selection.detect) != "column":
        return None
    names = [a.name for a in family.root.attributes if not a.dropped]
    require_column(family.root.relation.table, "column", rule.column or "", names)
    return rule.column


def through_parent(family: TableFamily, columns: tuple[ExtractedColumn, ...], rule: TableRule) -> str | None:
    """Return why a partitioned table has to be read through its parent, or None."""
    if family.root.relation.kind != "p":
        return None
    virtual = {a.name for m in family.members for a in m.attributes if a.generated == "v"}
    if virtual and (rule.where is not None or any(c.attribute.name in virtual for c in columns)):
        return "a partition's virtual generated column can differ from its parent's: read through the parent"
    for member in family.holders:
        if member.detail.may_select is False or member.detail.may_use_schema is False:
            name = qualified(member.relation.table)
            return f"the role may not read partition {name} itself: read through the parent"
    return None


def denial_of(family: TableFamily, server: ServerFacts) -> str | None:
    """Return why the table can't be read, with the missing grant, or None. A right is None if the table is now gone."""
    root, role = family.root, quoted(server.role)
    name = qualified(root.relation.table)
    if root.detail.may_use_schema is False:
        return f"no USAGE on its schema: GRANT USAGE ON SCHEMA {quoted(root.relation.table.schema)} TO {role}"
    if root.detail.may_select is False:
        some = "SELECT on some columns is not enough" if root.detail.may_select_some else "no SELECT"
        return f"{some}: GRANT SELECT ON {name} TO {role}"
    for member in family.members:
        name = qualified(member.relation.table)
        if member.detail.row_security:
            return (
                f"row-level security on {name} hides rows from this role: ALTER ROLE {role} BYPASSRLS, "
                "or exclude the table"
            )
        if server.in_recovery and member.detail.persistence == "u":
            return f"{name} is unlogged, and a standby holds no rows of it: read the primary, or exclude it"
    return None
