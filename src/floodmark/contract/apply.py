"""The tables of a run after the contract: it refuses some, and a run reads no row of these. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from floodmark.config import ContractTerms
from floodmark.model import ContractDrift, Fingerprint, TableName
from floodmark.observed import TableInfo
from floodmark.source.selection import exact_pattern

_SHOWN = 3
_NOTHING_LEFT = "the contract approves no column that the table has"


def apply_contract(
    tables: Sequence[TableInfo], unapproved: Iterable[TableName], terms: ContractTerms, drift: Sequence[ContractDrift]
) -> list[TableInfo]:
    """Return the tables of the run, ordered by name: refused ones among them, tables that are left out not.

    `unapproved` are the tables that the contract does not have, and that were not read.
    """
    failed: dict[TableName, list[ContractDrift]] = {}
    for one in drift:
        if one.action == "failed":
            failed.setdefault(one.table, []).append(one)
    unread = unapproved if terms.tables == "fail" else ()
    found = [_unread_table(table) for table in unread]
    found += tables
    return sorted((_judged(info, failed.get(info.table, ())) for info in found), key=lambda info: info.table)


def _judged(info: TableInfo, failed: Sequence[ContractDrift]) -> TableInfo:
    if failed:
        told = [_sentence(one) for one in failed[:_SHOWN]]
        more = f"; and {len(failed) - _SHOWN:,} more" if len(failed) > _SHOWN else ""
        return _refused(info, "; ".join(told) + more)
    if info.unapproved and not info.columns:
        return _refused(info, _NOTHING_LEFT)
    return info


def _sentence(one: ContractDrift) -> str:
    return one.detail if one.column is UNSET else f"{one.column}: {one.detail}"


def _refused(info: TableInfo, why: str) -> TableInfo:
    return replace(info, denied=why, denied_by="contract")


def approval_hint(table: TableName) -> str:
    """Return what to do about a table that the contract refuses."""
    return f"To approve it after a review: floodmark contract accept {exact_pattern(table)}"


def _unread_table(table: TableName) -> TableInfo:
    """Return a table that was not read: only its name is known."""
    return TableInfo(table=table, oid=0, kind="table", columns=(), parts=(), fingerprint=Fingerprint("", ""))
