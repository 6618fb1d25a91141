"""The contract of a run: the snapshot's tables are compared with it, told about, and refused where it says so."""

from __future__ import annotations

from collections.abc import Sequence

from floodmark.config import ContractTerms
from floodmark.contract.apply import apply_contract
from floodmark.contract.compare import ShownTables, compare_contract, missing_tables
from floodmark.errors import ConfigError
from floodmark.model import ContractDrift, ContractFacts, SourceIdentity
from floodmark.observed import TableInfo
from floodmark.pipeline.session import Session
from floodmark.source.base import SourceSnapshot

_SHOWN = 3


def keep_to_contract(session: Session, snapshot: SourceSnapshot, tables: list[TableInfo]) -> list[TableInfo]:
    """Return the tables of the run as the contract allows them, and note what differs from it in the session.

    Raises ConfigError if the contract is for another database.
    """
    terms = session.settings.selection.contract
    if terms is None:
        return tables
    drift = contract_drift(terms, snapshot, tables)
    session.contract = ContractFacts(terms.digest, _with_known(session, drift))
    if drift:
        more = f" and {len(drift) - _SHOWN:,} more" if len(drift) > _SHOWN else ""
        shown = ", ".join(f"{one.label} ({one.detail})" for one in drift[:_SHOWN])
        session.warn_once(f"the database differs from the contract: {shown}{more}")
    return apply_contract(tables, snapshot.choice.unapproved, terms, drift)


def contract_drift(
    terms: ContractTerms, snapshot: SourceSnapshot, tables: Sequence[TableInfo]
) -> tuple[ContractDrift, ...]:
    """Return what differs from the contract in a snapshot. Raises ConfigError if it is for another database."""
    require_same_database(terms, snapshot.identity)
    missing = missing_tables(terms, (info.table for info in tables))
    existing = snapshot.existing_relations(missing)
    gone = [table for table in missing if table not in existing]
    return compare_contract(terms, ShownTables(tables, snapshot.choice.unapproved, gone))


def require_same_database(terms: ContractTerms, identity: SourceIdentity) -> None:
    """Raise ConfigError if the contract names another database than the source's."""
    named = terms.contract.database
    if named is not None and named != identity.database:
        raise ConfigError(
            "can't use this contract",
            on=terms.file,
            why=f"it is for the database {named}, and the source is {identity.database}",
            hint="Name another file in contract.file, or correct `database` in it.",
        )


def _with_known(session: Session, drift: Sequence[ContractDrift]) -> tuple[ContractDrift, ...]:
    """Return the differences, with those of the last run about tables that this run leaves out."""
    before = session.current.manifest.contract if session.current is not None and not session.other_source else None
    known = before.drift if isinstance(before, ContractFacts) else ()
    about = {one.table for one in drift}
    kept = [one for one in known if session.left_out(one.table) and one.table not in about]
    return tuple(sorted([*drift, *kept], key=lambda one: one.table))
