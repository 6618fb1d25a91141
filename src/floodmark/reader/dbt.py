"""A dbt `sources.yml` of the tables that `load` made, from the manifest only.

A source is a schema of a DuckDB file, or a database of the Glue catalog. dbt renders texts as Jinja, so a comment's
braces are written in a form that gives them back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, Struct

from floodmark.layout import catalog_name, default_schema
from floodmark.model import Column, TableEntry
from floodmark.reader.types import column_type
from floodmark.state.manifest import Manifest

# A nightly run that is late by half a day is a warning, and a night without one is an error.
WARN_AFTER_HOURS, ERROR_AFTER_HOURS = 36, 60
_JINJA = re.compile(r"\{[{%#]")
_NO_WORD = re.compile(r"\W+")


class DbtOptions(Struct, frozen=True):
    """The user's options. `glue` is the Glue database that holds the tables, None for a DuckDB file.

    `dbt_utils` tests keys of several columns by the package of that name.
    """

    glue: str | None = None
    dbt_utils: bool = False


def dbt_sources(manifest: Manifest, wanted: Iterable[TableEntry], options: DbtOptions) -> dict[str, Any]:
    """Return the document, for dbt 1.10 and later. `wanted` are some of its tables with a good snapshot."""
    sources: dict[str, list[dict[str, Any]]] = {}
    for entry in wanted:
        sources.setdefault(options.glue or entry.schema, []).append(_table(entry, manifest, options))
    names = _source_names(manifest, list(sources))
    for tables in sources.values():
        _name_tables(tables)
    return {
        "version": 2,
        "sources": [
            {
                "name": names[schema],
                "schema": schema,
                "quoting": {"schema": True, "identifier": True},
                "description": f"Landed by Floodmark from the database {_plain(manifest.source.database)}.",
                "config": {
                    "freshness": {
                        "warn_after": {"count": WARN_AFTER_HOURS, "period": "hour"},
                        "error_after": {"count": ERROR_AFTER_HOURS, "period": "hour"},
                    }
                },
                "tables": tables,
            }
            for schema, tables in sources.items()
        ],
    }


def dbt_yaml(document: Mapping[str, Any]) -> str:
    """Return the document as YAML."""
    import yaml  # noqa: PLC0415 - by need: few commands write YAML

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return text


def _source_names(manifest: Manifest, schemas: Sequence[str]) -> dict[str, str]:
    """Return a name for each source: the database's, with the schema's if that is not the default one."""
    source = manifest.source
    usual = source.schema if source.schema is not UNSET else default_schema(source.dialect, source.database)
    whole = [source.database if one == usual or len(schemas) == 1 else f"{source.database}_{one}" for one in schemas]
    return dict(zip(schemas, _words(whole), strict=True))


def _name_tables(tables: list[dict[str, Any]]) -> None:
    """Give each table a name for dbt, and its own name as the identifier if that is another one."""
    for number, (table, name) in enumerate(zip(tables, _words([one["name"] for one in tables]), strict=True)):
        own = {} if name == table["name"] else {"identifier": table["name"]}
        tables[number] = {"name": name, **own, **{key: table[key] for key in table if key != "name"}}


def _words(names: Sequence[str]) -> list[str]:
    """Return a different word for each. dbt takes no blank in the name of a test, which holds the table's name."""
    found: list[str] = []
    for name in names:
        word = base = _NO_WORD.sub("_", name)
        number = 2
        while word in found:
            word, number = f"{base}_{number}", number + 1
        found.append(word)
    return found


def _table(entry: TableEntry, manifest: Manifest, options: DbtOptions) -> dict[str, Any]:
    glue, dialect = options.glue is not None, manifest.source.dialect
    usual = default_schema(dialect, manifest.source.database)
    moment = (entry.as_of or "").rstrip("Z").replace("T", " ")  # in UTC, as dbt takes a time without an offset
    found: dict[str, Any] = {
        "name": catalog_name(entry.table, usual) if glue else entry.name,
        "description": _plain(entry.comment) if entry.comment is not UNSET else "",
        # A table that did not change is not loaded again, so no column of it tells how fresh it is.
        "config": {
            "loaded_at_query": f"select cast('{moment}' as timestamp)",
            "meta": {"floodmark": {"table": entry.table.label, "as_of": entry.as_of, "run_id": manifest.run_id}},
        },
    }
    keys = _KeyTests(entry, glue)
    combined = keys.of_several(options.dbt_utils)
    if combined:
        found["data_tests"] = combined
    found["columns"] = [_column(column, dialect, glue, keys) for column in entry.columns]
    return {name: value for name, value in found.items() if value != ""}


class _KeyTests:
    """The tests of a table's keys. `lower` is set if the target has column names in lower case."""

    def __init__(self, entry: TableEntry, lower: bool) -> None:
        self._lower = lower
        self._primary = () if entry.primary_key is UNSET else entry.primary_key
        self._keys = [self._primary, *(() if entry.unique_keys is UNSET else entry.unique_keys)]

    def of_column(self, name: str) -> list[str]:
        unique = any(key == (name,) for key in self._keys)
        return [*(["not_null"] if name in self._primary else []), *(["unique"] if unique else [])]

    def of_several(self, dbt_utils: bool) -> list[dict[str, Any]]:
        """Return the test of a primary key with several columns. NULL makes a unique key's rows look the same."""
        if not dbt_utils or len(self._primary) < 2:
            return []
        names = [name.lower() if self._lower else name for name in self._primary]
        arguments = {"combination_of_columns": names, "quote_columns": True}
        return [{"dbt_utils.unique_combination_of_columns": {"arguments": arguments}}]


def _column(column: Column, dialect: str, glue: bool, keys: _KeyTests) -> dict[str, Any]:
    kind = column_type(column, dialect)
    tests = keys.of_column(column.name)
    return {
        "name": column.name.lower() if glue else column.name,
        "quote": True,
        "data_type": kind.glue if glue else kind.duckdb,
        **({} if column.comment is UNSET else {"description": _plain(column.comment)}),
        **({"data_tests": tests} if tests else {}),
    }


def _plain(text: str) -> str:
    """Return a text that dbt's Jinja renders as this one."""
    return text.replace("{", "{{ '{' }}") if _JINJA.search(text) else text
