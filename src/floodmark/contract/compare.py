"""The differences between the contract and the tables of a snapshot, and what a run does about each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import UNSET, Struct

from floodmark.config import ContractColumn, ContractTable, ContractTerms
from floodmark.model import Column, ContractDrift, DriftKind, TableName
from floodmark.observed import TableInfo

Action = Literal["excluded", "failed", "told"]
# A choice of the user as what a run does.
_ACTIONS: dict[str, Action] = {"exclude": "excluded", "fail": "failed", "include": "told", "accept": "told"}
_DONE = {"excluded": "it is left out", "failed": "the table fails", "told": "it is extracted"}


class ShownTables(Struct, frozen=True):
    """The tables that a snapshot shows.

    `tables` are the selected ones. `unapproved` are those that the contract does not have, and that were not read.
    `gone` are tables of the contract that the source does not have.
    """

    tables: Sequence[TableInfo]
    unapproved: Iterable[TableName] = ()
    gone: Iterable[TableName] = ()


def compare_contract(terms: ContractTerms, shown: ShownTables) -> tuple[ContractDrift, ...]:
    """Return all differences, ordered by table. Only the selected tables are compared."""
    approved = terms.contract.tables
    found = [_new_table(table, terms) for table in shown.unapproved]
    found += [_gone_table(table) for table in shown.gone]
    for info in shown.tables:
        if info.table not in approved:
            found.append(_new_table(info.table, terms))
        elif info.columns or info.unapproved:  # else nothing is known about it
            found += _compare_table(approved[info.table], info, terms)
    return tuple(sorted(found, key=lambda one: one.table))


def missing_tables(terms: ContractTerms, selected: Iterable[TableName]) -> list[TableName]:
    """Return the tables of the contract that are not among the selected ones. The source can still have them."""
    return sorted(terms.contract.tables.keys() - set(selected))


def _new_table(table: TableName, terms: ContractTerms) -> ContractDrift:
    return _drift(table, "new_table", _ACTIONS[terms.tables], "the table is not in the contract")


def _gone_table(table: TableName) -> ContractDrift:
    return ContractDrift(
        kind="gone_table",
        schema=table.schema,
        name=table.name,
        action="told",
        detail="the table is in the contract, and not in the source",
    )


def _compare_table(approved: ContractTable, info: TableInfo, terms: ContractTerms) -> Iterator[ContractDrift]:
    shown = {one.name: one for one in (*info.columns, *info.unapproved)}
    for name, column in shown.items():
        yield from _compare_column(approved.columns.get(name), column, info, terms)
    for name in approved.columns:
        if name not in shown:
            action: Action = "failed" if terms.columns == "fail" else "told"
            does = " (the table fails)" if action == "failed" else ""
            detail = f"the contract has the column, and the table does not, or floodmark.yaml excludes it{does}"
            yield _drift(info.table, "gone_column", action, detail, name, tell=False)
    yield from _compare_keys(approved, info)


def _compare_column(
    approved: ContractColumn | None, column: Column, info: TableInfo, terms: ContractTerms
) -> Iterator[ContractDrift]:
    action = _ACTIONS[terms.columns]
    if approved is None:
        yield _drift(
            info.table, "new_column", action, f"the column ({column.type}) is not in the contract", column.name
        )
    elif approved.masked and column.name not in info.masked:
        detail = "the contract approves the column behind a mask only, and the configuration has none"
        yield _drift(info.table, "unmasked", action, detail, column.name)
    elif column.name in info.masked:
        return
    elif more := [one for one in info.attributes.get(column.name, ()) if one not in approved.attributes]:
        detail = f"its type has an attribute that the contract does not have ({', '.join(more)})"
        yield _drift(info.table, "new_column", action, detail, column.name)
    elif column.type != approved.type:
        detail = f"the type is {column.type}, the contract says {approved.type}"
        yield _drift(info.table, "other_type", _ACTIONS[terms.types], detail, column.name)


def _compare_keys(approved: ContractTable, info: TableInfo) -> Iterator[ContractDrift]:
    """Yield the keys of the contract that the table does not have: its rows can then repeat them."""
    keys = [*(() if approved.primary_key is None else (approved.primary_key,)), *approved.unique_keys]
    there = {frozenset(key) for key in (info.primary_key or (), *info.unique_keys)}
    for key in keys:
        if frozenset(key) not in there:
            detail = f"the contract has the key ({', '.join(key)}), and the extracted rows do not"
            yield _drift(info.table, "other_key", "told", detail, tell=False)


def _drift(
    table: TableName, kind: DriftKind, action: Action, detail: str, column: str | None = None, *, tell: bool = True
) -> ContractDrift:
    return ContractDrift(
        kind=kind,
        schema=table.schema,
        name=table.name,
        column=UNSET if column is None else column,
        action=action,
        detail=f"{detail}: {_DONE[action]}" if tell else detail,
    )
