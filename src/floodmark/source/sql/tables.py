"""The selected tables of a snapshot: the catalog's facts with the user's rules applied, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection

from floodmark.config import Mask, Selection, TableRule
from floodmark.errors import ConfigError
from floodmark.model import Column, Fingerprint, TableName, commented
from floodmark.observed import Part, TableInfo
from floodmark.source.base import NamedRelation
from floodmark.source.keys import keeps_apart, landed_keys
from floodmark.source.masks import mask_identity
from floodmark.source.selection import (
    CandidateRelation,
    TableChoice,
    choose_tables,
    exact_pattern,
    require_column,
    rules_by_table,
)
from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.facts import LineShape, SqlColumn, SqlRelation, SqlTable, TableFacts
from floodmark.source.sql.statements import select_rows

# Part of every fingerprint: raise it if the same rows give other lines.
OUTPUT_VERSION = 1


class TableReader:
    """Reads tables from the catalog of one snapshot. `errors` are those that its driver raises."""

    def __init__(
        self, dialect: Dialect, connection: Connection, default_schema: str, errors: tuple[type[Exception], ...]
    ) -> None:
        self._dialect, self._connection = dialect, connection
        self._default_schema, self._errors = default_schema, errors

    def read(
        self, relations: Sequence[SqlRelation], selection: Selection, encoding_digest: str
    ) -> tuple[TableChoice, list[SqlTable]]:
        """Return the choice, and the selected tables, ordered by name.

        Raises ConfigError for a pattern that selects nothing, a rule without its table or column, a filter that the
        database refuses, and a hash mask without a key.
        """
        candidates = [CandidateRelation(one.table, one.by, one.what, one.noun) for one in relations]
        rules = rules_by_table(candidates, selection, self._default_schema)
        by_name = {relation.table: relation for relation in relations}
        choice = choose_tables(candidates, selection, self._default_schema)
        return choice, [
            self._table(by_name[table], rules.get(table, TableRule()), selection, encoding_digest)
            for table in choice.tables
        ]

    def _table(self, relation: SqlRelation, rule: TableRule, selection: Selection, encoding_digest: str) -> SqlTable:
        try:
            facts = self._dialect.facts(self._connection, relation)
        except self._errors as error:
            if self._dialect.lost_connection(error):
                raise
            self._dialect.end_task(self._connection)  # a failed statement can have ended the transaction
            self._dialect.begin_task(self._connection)
            facts = TableFacts(unreadable=f"its definition can't be read ({self._dialect.code(error)})")
        if facts.unreadable is not None:
            return _unreadable(relation, facts, rule)
        allowed = _chosen_columns(relation.table, facts.columns, rule)
        chosen = tuple(one for one in allowed if rule.columns.approves(one.name))
        unapproved = _unapproved_columns(allowed, rule)
        if not chosen:
            empty = _unreadable(relation, replace(facts, unreadable="the contract approves no column of it"), rule)
            return replace(empty, info=replace(empty.info, unapproved=unapproved))
        why = self._undigestible(facts, chosen, rule, selection) if facts.digests else None
        if why is not None:
            facts = replace(facts, digests=False, no_proof=why)
        shape = self._shape(relation.table, chosen, rule, selection)
        table = SqlTable(_info(relation, facts, chosen, shape), relation, facts, chosen, shape, rule.where)
        info = replace(table.info, fingerprint=_fingerprint(table, encoding_digest), unapproved=unapproved)
        table = replace(table, info=info)
        if rule.where is not None:
            self._require_usable_filter(table)
        return table

    def _undigestible(
        self, facts: TableFacts, chosen: Sequence[SqlColumn], rule: TableRule, selection: Selection
    ) -> str | None:
        """Return why nothing is proven by digest, or None."""
        if (rule.detect or selection.detect) == "always":
            return "detect: always"
        return self._dialect.undigestible(facts, chosen, rule.where)

    def _shape(self, table: TableName, chosen: Sequence[SqlColumn], rule: TableRule, selection: Selection) -> LineShape:
        masks = [(i, rule.columns.mask[one.name]) for i, one in enumerate(chosen) if one.name in rule.columns.mask]
        hashes = any(mask == "hash" for _, mask in masks)
        if hashes and selection.mask_key is None:
            raise ConfigError("can't use a hash mask", why="it needs a key", on=f"tables.rules: {exact_pattern(table)}")
        makers = tuple(self._dialect.maker(one) for one in chosen)
        key = selection.mask_key if hashes else None
        return LineShape(tuple(one.name for one in chosen), makers, tuple(masks), key)

    def _require_usable_filter(self, table: SqlTable) -> None:
        """Raise ConfigError if the database refuses the table's filter. No row is read."""
        on = f"tables.rules.{exact_pattern(table.info.table)}.where"
        refused = self._dialect.refused_filter_text(self._connection, table.where or "")
        if refused is not None:
            raise ConfigError("can't use a table rule", on=on, why=refused[0], hint=refused[1])
        filtered, unfiltered = (select_rows(self._dialect, one) for one in (table, replace(table, where=None)))
        error = self._dialect.check_filter(self._connection, filtered)
        if error is None or self._dialect.check_filter(self._connection, unfiltered) is not None:
            return
        why, hint = self._dialect.refused_filter(error, [column.name for column in table.facts.columns])
        raise ConfigError("can't use a table rule", on=on, why=f"{why} ({self._dialect.code(error)})", hint=hint)


def named_relation(relation: SqlRelation) -> NamedRelation:
    if relation.by == "any":
        return NamedRelation("table", relation.what)
    return NamedRelation("part" if relation.by == "never" else "other", relation.what)


def _chosen_columns(table: TableName, columns: Sequence[SqlColumn], rule: TableRule) -> tuple[SqlColumn, ...]:
    """Return the columns a rule leaves, in order. Raises ConfigError for a missing column, or if none is left."""
    present = [one for one in columns if one.listed]
    names = [one.name for one in present]
    for key, listed in (("columns.exclude", rule.columns.exclude), ("columns.mask", rule.columns.mask)):
        for name in listed:
            require_column(table, key, name, names)
    left = tuple(one for one in present if one.name not in rule.columns.exclude)
    if not left:
        on, hint = f"tables.rules: {exact_pattern(table)}", "To leave the table out, name it in tables.exclude."
        raise ConfigError("can't use a table rule", on=on, why="it leaves no column", hint=hint)
    return left


def _unapproved_columns(allowed: Sequence[SqlColumn], rule: TableRule) -> tuple[Column, ...]:
    """Return the columns that a rule leaves out only because the contract does not approve them."""
    left_out = (one for one in allowed if not rule.columns.approves(one.name))
    return tuple(_landed_column(one, rule.columns.mask.get(one.name)) for one in left_out)


def _unreadable(relation: SqlRelation, facts: TableFacts, rule: TableRule) -> SqlTable:
    """Return the entry for a view of a missing table, and for others whose columns are not known."""
    shape = LineShape((), (), (), None)
    info = replace(
        _info(relation, facts, (), shape),
        fingerprint=Fingerprint(digest_of(facts.unreadable), ""),
        denied=facts.unreadable,
    )
    return SqlTable(info, relation, facts, (), shape, rule.where)


def _info(relation: SqlRelation, facts: TableFacts, chosen: Sequence[SqlColumn], shape: LineShape) -> TableInfo:
    masks = dict(shape.masks)
    part = Part(
        id=relation.table.name,
        table=relation.table,
        relfilenode=0,
        heap_blocks=0,
        total_bytes=0,
        by_block=False,
        no_proof=facts.no_proof,
        stamp=facts.stamp,
        digests=facts.digests,
    )
    columns = tuple(commented(_landed_column(one, masks.get(i)), one.comment) for i, one in enumerate(chosen))
    distinct = {one.name for i, one in enumerate(chosen) if one.distinct and keeps_apart(masks.get(i))}
    keys = landed_keys(facts.keys, distinct)
    return TableInfo(
        table=relation.table,
        oid=facts.oid,
        kind=relation.kind,
        columns=columns,
        parts=(part,),
        fingerprint=Fingerprint("", ""),
        primary_key=keys.primary,
        unique_keys=keys.unique,
        comment=facts.comment,
        masked=tuple(chosen[i].name for i, _ in shape.masks),
    )


def _landed_column(one: SqlColumn, mask: Mask | None) -> Column:
    if mask is None:
        return Column(one.name, one.type, one.nullable)
    return Column(one.name, "TEXT", one.nullable or mask == "null")


def _fingerprint(table: SqlTable, encoding_digest: str) -> Fingerprint:
    shape = table.shape
    key = None if shape.key is None else mask_identity(shape.key)
    config = [OUTPUT_VERSION, shape.names, shape.masks, table.where, key, encoding_digest]
    return Fingerprint(digest_of(table.facts.definition), digest_of(config))


def digest_of(facts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
