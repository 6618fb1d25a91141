"""The text of a contract file, for people to review: the same contract always gives the same text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from floodmark.config import Contract, ContractColumn, ContractTable
from floodmark.config.contract_file import FORMAT, VERSION
from floodmark.config.template import yaml_scalar

_HEADER = """\
# The contract: the tables and columns that are approved to leave the database. A run keeps to it
# (`contract` in floodmark.yaml). Review each change of this file as you review code.
#
# `masked: true` approves a column behind a mask only. `note:` is free text, on a table or a column.
# To compare with the database: floodmark contract check
# To approve a change:          floodmark contract accept TABLE, or TABLE.COLUMN
# These commands write the whole file: notes stay, comments do not.
"""
# Words that need no quotes: no other YAML type, in any version, looks like one of these.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ ][A-Za-z0-9_]+|\([0-9]+(?:,[0-9]+)?\)|\[\])*\Z")
_NOT_PLAIN = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def contract_text(contract: Contract) -> str:
    """Return the file's text. Tables are in order of their names, columns in the order of the contract."""
    lines = [f"format: {FORMAT}", f"version: {VERSION}"]
    if contract.database is not None:
        lines.append(f"database: {_scalar(contract.database)}")
    lines.append("schemas:" if contract.tables else "schemas: {}")
    tables = sorted(contract.tables.items(), key=lambda one: one[0])
    for schema, inner in groupby(tables, key=lambda one: one[0].schema):
        lines.append(f"  {_scalar(schema)}:")
        for name, table in inner:
            lines += [f"    {_scalar(name.name)}:", *(f"      {line}" for line in _table_lines(table))]
    return _HEADER + "\n".join(lines) + "\n"


def _table_lines(table: ContractTable) -> Iterator[str]:
    if table.note is not None:
        yield f"note: {_scalar(table.note)}"
    if table.primary_key is not None:
        yield f"primary_key: {_list(table.primary_key)}"
    if table.unique_keys:
        yield f"unique_keys: [{', '.join(map(_list, table.unique_keys))}]"
    yield "columns:" if table.columns else "columns: {}"
    for name, column in table.columns.items():
        yield f"  {_scalar(name)}: {_column(column)}"


def _column(column: ContractColumn) -> str:
    if not column.masked and column.note is None and not column.attributes:
        return _scalar(column.type)
    attributes = [f"attributes: {_list(column.attributes)}"] if column.attributes else []
    masked = ["masked: true"] if column.masked else []
    note = [] if column.note is None else [f"note: {_flow_scalar(column.note)}"]
    return "{" + ", ".join([f"type: {_flow_scalar(column.type)}", *attributes, *masked, *note]) + "}"


def _flow_scalar(text: str) -> str:
    """Return a text for a place where a comma or a bracket ends it."""
    return _scalar(text) if not {*text} & {*",[]{}"} else yaml_scalar(text)


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_flow_scalar, names))}]"


def _scalar(text: str) -> str:
    return text if _PLAIN.match(text) and text.lower() not in _NOT_PLAIN else yaml_scalar(text)
