"""A database's content, for a first configuration: its tables, and columns whose names suggest personal data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from floodmark.backends import open_source
from floodmark.config import Mask, Selection, Settings
from floodmark.model import TableInfo
from floodmark.source.selection import exact_pattern
from floodmark.wording import plural

# Columns that usually serve as keys elsewhere are hashed, which keeps joins. Columns that are only read are redacted.
_HASHED = (
    r"nino|national_?insurance(_?(no|number))?|ni_?number|ssn|nhs_?(no|number)|passport_?(no|number)|"
    r"driving_?licen[cs]e(_?(no|number))?|tax_?(no|number|reference)|utr|"
    r"iban|sort_?code|(bank_?)?account_?(no|number)|card_?(no|number)|e_?mail(_?address)?"
)
_REDACTED = (
    r"(home_?|work_?|mobile_?)?(phone|telephone|tel|mobile)(_?(no|number))?|fax(_?number)?|"
    r"(first|fore|given|middle|last|family|full|maiden|birth)_?names?|sur_?name|alias(es)?|"
    r"dob|(date_?of_?birth|birth_?dat(e|ay)|date_?birth)|place_?of_?birth|"
    r"(home_?|postal_?|street_?)?address(_?line)?(_?\d)?|post_?code|zip_?code|"
    r"gender|sex|ethnicity|religion|sexual_?orientation|nationality|disability|"
    r"ip_?address|user_?agent|password(_?hash)?|secret|api_?key|token|signature|photo"
)
_PART = r"(?:.*_)?(?:{})(?:_(?:enc|raw|text|value))?\Z"
_RULES: tuple[tuple[re.Pattern[str], Mask], ...] = (
    (re.compile(_PART.format(_HASHED)), "hash"),
    (re.compile(_PART.format(_REDACTED)), "redact"),
)
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class DatabaseContent(Struct, frozen=True):
    """The content of a database.

    `found` holds sentences; `suggestions` holds masks by column, by a rule's table name.
    """

    found: list[str]
    suggestions: dict[str, dict[str, Mask]]


def inspect_database(settings: Settings) -> DatabaseContent:
    """Inspect all tables of the source. Raises SourceError, ConfigError."""
    snapshot = open_source(settings).snapshot()
    try:
        tables = snapshot.tables(Selection(), "")
    finally:
        snapshot.close()
    masks = {exact_pattern(table.table): suggested_masks([column.name for column in table.columns]) for table in tables}
    return DatabaseContent(_table_counts(tables), {name: columns for name, columns in masks.items() if columns})


def suggested_masks(columns: Sequence[str]) -> dict[str, Mask]:
    """Return the masks that the column names suggest. Pure."""
    found = {column: _suggested_mask(_WORD.sub("_", column).lower()) for column in columns}
    return {column: mask for column, mask in found.items() if mask is not None}


def _suggested_mask(name: str) -> Mask | None:
    return next((mask for pattern, mask in _RULES if pattern.match(name)), None)


def _table_counts(tables: Sequence[TableInfo]) -> list[str]:
    schemas = Counter(table.table.schema for table in tables)
    lines = [
        f"The database holds {plural(number, 'table')} in schema {schema}."
        for schema, number in sorted(schemas.items())
    ]
    lines += [f"Of these {table.table.label} can't be read: {table.denied}" for table in tables if table.denied]
    return lines or ["The database holds no table that this role can see."]
