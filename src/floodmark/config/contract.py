"""The contract: the tables and columns that were approved to leave the database, and what a run does with others.

`config.contract_file` reads it, `floodmark.contract` compares it with a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from floodmark.model import TableName

ContractChoice = Literal["include", "exclude", "fail"]
TypeChoice = Literal["accept", "fail"]
CONTRACT_FILE = "floodmark.contract.yaml"


class ContractColumn(Struct, frozen=True):
    """An approved column. A column that is `masked` was approved only behind a mask. `note` is a reviewer's text.

    `attributes` are the approved attributes of a composite type, also those within them: `a`, `a.b`.
    """

    type: str
    masked: bool = False
    note: str | None = None
    attributes: tuple[str, ...] = ()


class ContractTable(Struct, frozen=True):
    """An approved table: its columns by name, in order, and its keys. None as primary key: the contract names none."""

    columns: Mapping[str, ContractColumn] = {}
    primary_key: tuple[str, ...] | None = None
    unique_keys: tuple[tuple[str, ...], ...] = ()
    note: str | None = None


class Contract(Struct, frozen=True):
    """All that was approved. If `database` is set, the contract is for the database of this name only."""

    tables: Mapping[TableName, ContractTable] = {}
    database: str | None = None


class ContractTerms(Struct, frozen=True):
    """The contract of a run, and what the run does if the database differs from it.

    `tables` is about tables that the contract does not have, `columns` about such columns, `types` about another type.
    `file` is where the contract lies, `digest` the SHA-256 (hex) of that file.
    """

    contract: Contract
    tables: ContractChoice = "exclude"
    columns: ContractChoice = "exclude"
    types: TypeChoice = "accept"
    file: str = CONTRACT_FILE
    digest: str = ""
