"""Contracts made from a snapshot's tables: a first one, and one that takes over what was approved. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from floodmark.config import Contract, ContractColumn, ContractTable
from floodmark.errors import ConfigError
from floodmark.model import Column, TableName
from floodmark.observed import TableInfo

_WHAT = "can't accept a change"


class Approval(Struct, frozen=True):
    """A table, or one column of it, that was approved as the source shows it now."""

    table: TableName
    column: str | None = None

    @property
    def label(self) -> str:
        return self.table.label if self.column is None else f"{self.table.label}.{self.column}"


def contract_of(tables: Iterable[TableInfo], database: str, known: Contract = Contract()) -> Contract:  # noqa: B008
    """Return the contract that approves these tables as they are. The notes of a known one stay."""
    found = {info.table: table_of(info, known.tables.get(info.table, ContractTable())) for info in tables}
    return Contract(found, database)


def table_of(info: TableInfo, known: ContractTable = ContractTable()) -> ContractTable:  # noqa: B008
    """Return the contract of a table as it is. The notes of a known one stay."""
    return ContractTable(
        columns={name: _with_note(column, known.columns.get(name)) for name, column in _columns_of(info).items()},
        primary_key=info.primary_key,
        unique_keys=info.unique_keys,
        note=known.note,
    )


def accept(contract: Contract, approvals: Sequence[Approval], shown: Mapping[TableName, TableInfo]) -> Contract:
    """Return the contract with the approved tables and columns as the source shows them.

    A table or a column that the source no longer has leaves the contract. Raises ConfigError if neither has it.
    """
    for one in approvals:
        contract = _accept_one(contract, one, shown.get(one.table))
    return contract


def _accept_one(contract: Contract, approval: Approval, info: TableInfo | None) -> Contract:
    tables, known = dict(contract.tables), contract.tables.get(approval.table)
    if info is None and known is None:
        hint = "`floodmark contract check` lists the differences."
        raise ConfigError(_WHAT, on=approval.label, why="no such table is selected, or in the contract", hint=hint)
    if info is None:
        _require_whole_table(approval)
        del tables[approval.table]
    elif approval.column is None:
        tables[approval.table] = table_of(info, known or ContractTable())
    else:
        tables[approval.table] = _with_column(known, info, approval)
    return replace(contract, tables=tables)


def _require_whole_table(approval: Approval) -> None:
    if approval.column is not None:
        why, hint = "the source has no such table any more", "Accept the whole table: then it leaves the contract."
        raise ConfigError(_WHAT, on=approval.label, why=why, hint=hint)


def _with_column(known: ContractTable | None, info: TableInfo, approval: Approval) -> ContractTable:
    """Return the table's contract with one column as the source shows it."""
    if known is None:
        why, hint = "the contract does not have the table", f"Accept the whole table: {info.table.label}."
        raise ConfigError(_WHAT, on=approval.label, why=why, hint=hint)
    name, there = approval.column or "", _columns_of(info)
    if name not in there and name not in known.columns:
        why, hint = "neither the table nor the contract has the column", "`floodmark contract check` lists differences."
        raise ConfigError(_WHAT, on=approval.label, why=why, hint=hint)
    columns = dict(known.columns)
    columns.pop(name, None)
    if name in there:
        columns[name] = _with_note(there[name], known.columns.get(name))
    # In the order of the table. A column that is gone, and was not accepted as such, comes last.
    ordered = {one: columns[one] for one in (*there, *columns) if one in columns}
    keys = [key for key in known.unique_keys if set(key) <= ordered.keys()]
    primary = known.primary_key if set(known.primary_key or ()) <= ordered.keys() else None
    return replace(known, columns=ordered, primary_key=primary, unique_keys=tuple(keys))


def _columns_of(info: TableInfo) -> dict[str, ContractColumn]:
    return {one.name: _column_of(info, one) for one in info.columns}


def _column_of(info: TableInfo, column: Column) -> ContractColumn:
    masked = column.name in info.masked
    return ContractColumn(column.type, masked, attributes=() if masked else info.attributes.get(column.name, ()))


def _with_note(column: ContractColumn, known: ContractColumn | None) -> ContractColumn:
    return column if known is None else replace(column, note=known.note)
