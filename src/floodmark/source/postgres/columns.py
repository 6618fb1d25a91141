"""The columns of a table to extract, and their form: the user's rule applied to the catalog's columns."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET, Struct

from floodmark.config import Mask, TableRule
from floodmark.errors import ConfigError
from floodmark.model import Column, TableName
from floodmark.source.postgres.masks import masked_value
from floodmark.source.postgres.types import Attribute, TypeCatalog
from floodmark.source.quoting import quoted
from floodmark.source.selection import exact_pattern, require_column


class ExtractedColumn(Struct, frozen=True):
    """A column that is extracted, behind its mask if it has one. `base` is the type below its domain."""

    attribute: Attribute
    mask: Mask | None
    base: str | None = None

    @property
    def column(self) -> Column:
        a = self.attribute
        if self.mask is None:
            return Column(a.name, a.type_name or "", not a.not_null, UNSET if self.base is None else self.base)
        return Column(a.name, "text", self.mask == "null" or not a.not_null)

    @property
    def sql(self) -> str:
        """Return the select-list item."""
        return f"{self.expression} AS {quoted(self.attribute.name)}"

    @property
    def expression(self) -> str:
        """Return the value as SQL."""
        return quoted(self.attribute.name) if self.mask is None else masked_value(self.attribute.name, self.mask)


def extracted_columns(
    table: TableName, attributes: Iterable[Attribute], rule: TableRule, types: TypeCatalog
) -> tuple[ExtractedColumn, ...]:
    """Return the columns a rule leaves, in order. Raises ConfigError for a missing column, or if none is left.

    If the contract approves none of them, none is returned.
    """
    present = [a for a in attributes if not a.dropped]
    names = [a.name for a in present]
    for key, listed in (("columns.exclude", rule.columns.exclude), ("columns.mask", rule.columns.mask)):
        for name in listed:
            require_column(table, key, name, names)
    kept = [a for a in present if a.name not in rule.columns.exclude]
    if present and not kept:
        raise ConfigError(
            "can't use a table rule",
            on=f"tables.rules: {exact_pattern(table)}",
            why="it leaves no column",
            hint="To leave the table out, name it in tables.exclude.",
        )
    approved = (a for a in kept if rule.columns.approves(a.name, types.attributes(a.type)))
    return tuple(ExtractedColumn(a, rule.columns.mask.get(a.name), types.base_name(a.type)) for a in approved)


def unapproved_columns(attributes: Iterable[Attribute], rule: TableRule, types: TypeCatalog) -> tuple[Column, ...]:
    """Return the columns that a rule leaves out only because the contract does not approve them."""
    left_out = (a for a in attributes if not a.dropped and a.name not in rule.columns.exclude)
    return tuple(
        ExtractedColumn(a, rule.columns.mask.get(a.name), types.base_name(a.type)).column
        for a in left_out
        if not rule.columns.approves(a.name, types.attributes(a.type))
    )


def composite_attributes(attributes: Iterable[Attribute], types: TypeCatalog) -> dict[str, tuple[str, ...]]:
    """Return the attributes of each column whose type is composite, or made of composites."""
    return {a.name: found for a in attributes if not a.dropped and (found := types.attributes(a.type))}
