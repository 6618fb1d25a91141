"""The reading of a contract file: strict, and with the line in each error.

The file is read node by node, so that each error can name its line. No error quotes a value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import yaml

from floodmark.config.contract import Contract, ContractColumn, ContractTable
from floodmark.config.document import did_you_mean
from floodmark.config.shown import shown_key
from floodmark.config.yaml_text import compose_yaml
from floodmark.errors import ConfigError
from floodmark.model import TableName

REFUSED = "can't use this contract"
FORMAT = "floodmark.contract"
VERSION = 1
_TEXT = "tag:yaml.org,2002:str"
_HINT = "`floodmark contract write` writes a file in the right form; docs/contract.md describes it."


def read_contract(path: Path) -> tuple[Contract, str]:
    """Return the contract at `path`, and the SHA-256 (hex) of the file. Raises ConfigError."""
    data = _read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8"
        raise ConfigError(REFUSED, on=str(path), why=why, hint="Save the file as UTF-8.") from None
    return parse_contract(text, path), hashlib.sha256(data).hexdigest()


def parse_contract(text: str, path: Path) -> Contract:
    """Return the contract that a text holds. Raises ConfigError, which names the line."""
    node = compose_yaml(text, path, REFUSED)
    if node is None:
        raise ConfigError(REFUSED, on=str(path), why="the file is empty", hint=_HINT)
    return _Reader(path).contract(node)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = "To write a first one for review: floodmark contract write"
        raise ConfigError(REFUSED, on=str(path), why="the file does not exist", hint=hint) from None
    except OSError as error:
        why, hint = f"it can't be read ({error.strerror})", "Make the file readable, or name another in contract.file."
        raise ConfigError(REFUSED, on=str(path), why=why, hint=hint) from None


class _Reader:
    """A walk through the nodes of a contract file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[int] = set()
        self._lines: dict[int, int] = {}  # of the key, by the node of its value

    def contract(self, node: yaml.Node) -> Contract:
        given = self._fields(node, "The file", ("format", "version", "database", "schemas"), ("format", "version"))
        if self._text(given["format"], "format") != FORMAT:
            self._refuse(given["format"], "the format is another one", f"Write format: {FORMAT}.")
        if given["version"].value != str(VERSION):
            self._refuse(given["version"], "this Floodmark does not know the version", f"Write version: {VERSION}.")
        database = self._text(given["database"], "database") if "database" in given else None
        schemas = self._mapping(given["schemas"], "schemas") if "schemas" in given else {}
        tables = {
            TableName(schema, name): self._table(inner, name)
            for schema, tables in schemas.items()
            for name, inner in self._mapping(tables, schema).items()
        }
        return Contract(tables, database)

    def _table(self, node: yaml.Node, name: str) -> ContractTable:
        given = self._fields(node, "A table", ("note", "primary_key", "unique_keys", "columns"), ("columns",))
        columns = self._mapping(given["columns"], "columns")
        found = {column: self._column(inner, column) for column, inner in columns.items()}
        keys = self._list(given["unique_keys"], "unique_keys") if "unique_keys" in given else []
        return ContractTable(
            columns=found,
            primary_key=self._key(given["primary_key"], found) if "primary_key" in given else None,
            unique_keys=tuple(self._key(key, found) for key in keys),
            note=self._text(given["note"], "note") if "note" in given else None,
        )

    def _column(self, node: yaml.Node, name: str) -> ContractColumn:
        if isinstance(node, yaml.ScalarNode):
            return ContractColumn(self._text(node, name))
        given = self._fields(node, "A column", ("type", "attributes", "masked", "note"), ("type",))
        attributes = self._list(given["attributes"], "attributes") if "attributes" in given else []
        return ContractColumn(
            type=self._text(given["type"], "type"),
            masked=self._flag(given["masked"]) if "masked" in given else False,
            note=self._text(given["note"], "note") if "note" in given else None,
            attributes=tuple(self._text(one, "an attribute") for one in attributes),
        )

    def _key(self, node: yaml.Node, columns: Mapping[str, ContractColumn]) -> tuple[str, ...]:
        names = tuple(self._text(one, "a column of a key") for one in self._list(node, "a key"))
        for name in names:
            if name not in columns:
                why = f"a key names {shown_key(name)}, which is not among the table's columns"
                self._refuse(node, why, "Correct the name, or add the column.")
        return names

    def _fields(
        self, node: yaml.Node, what: str, known: Iterable[str], required: Iterable[str]
    ) -> dict[str, yaml.Node]:
        """Return a mapping's values by key. All keys must be known."""
        found = self._mapping(node, what)
        for key, inner in found.items():
            if key not in known:
                hint = f"{did_you_mean(key, known)}{what} takes: {', '.join(known)}."
                self._refuse(inner, f"unknown key {shown_key(key)}", hint)
        for key in required:
            if key not in found:
                self._refuse(node, f"{key} is missing", _HINT)
        return found

    def _mapping(self, node: yaml.Node, what: str) -> dict[str, yaml.Node]:
        self._once(node)
        if not isinstance(node, yaml.MappingNode):
            self._refuse(node, f"{shown_key(what)} must hold keys", "Write each as `key: value`, indented.")
        found = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, "a key is no text", "Put it in quotes.")
            self._lines[id(inner)] = key.start_mark.line
            found[key.value] = inner  # also `on` and `1` are names here
        return found

    def _list(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        self._once(node)
        if not isinstance(node, yaml.SequenceNode):
            self._refuse(node, f"{what} must be a list", "Write [a, b].")
        return list(node.value)

    def _text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT or not node.value:
            self._refuse(node, f"{shown_key(what)} must be a text", "Put the text in quotes.")
        return str(node.value)

    def _flag(self, node: yaml.Node) -> bool:
        if not isinstance(node, yaml.ScalarNode) or node.value not in ("true", "false"):
            self._refuse(node, "masked must be true or false", "Write masked: true, or leave it out.")
        return bool(node.value == "true")

    def _once(self, node: yaml.Node) -> None:
        """Refuse a part that is used twice. With such references, a short file can mean a huge one."""
        if id(node) in self._seen:
            self._refuse(node, "a part of the file is used twice (a YAML alias)", "Write the part out.")
        self._seen.add(id(node))

    def _refuse(self, node: yaml.Node, why: str, hint: str) -> NoReturn:
        line = self._lines.get(id(node), node.start_mark.line) + 1
        raise ConfigError(REFUSED, on=f"{self._path}, line {line}", why=why, hint=hint)
