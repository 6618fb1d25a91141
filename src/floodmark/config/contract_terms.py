"""The contract in force: from the file's `contract` section to checked `ContractTerms`."""

from __future__ import annotations

from pathlib import Path

from floodmark.config.contract import CONTRACT_FILE, ContractTerms
from floodmark.config.schema import ContractSection


def contract_place(section: ContractSection | None, name: str) -> Path:
    """Return where the contract lies. `name` is the configuration file's: a relative path begins at its folder."""
    chosen = CONTRACT_FILE if section is None or section.file is None else section.file
    return Path(name).parent / chosen


def contract_terms(section: ContractSection, place: Path) -> ContractTerms:
    """Return the contract, read from its file, and what a run does with what differs from it. Raises ConfigError."""
    from floodmark.config.contract_file import read_contract  # noqa: PLC0415 - by need: few runs need YAML here

    contract, digest = read_contract(place)
    default = ContractTerms(contract)
    return ContractTerms(
        contract=contract,
        tables=section.tables or default.tables,
        columns=section.columns or default.columns,
        types=section.types or default.types,
        file=str(place),
        digest=digest,
    )
