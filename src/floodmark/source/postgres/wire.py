"""The columns as the server sends them in binary form, for the native encoder: each type's own bytes, or text.

The encoder knows some of PostgreSQL's own types, and domains, enums and arrays made of them. The server sends a value
of any other type as the text that has to appear in the line: made by `to_json` for JSON Lines, and by the type's output
function (through `format`) for CSV. So no function of a user is called that would not be called otherwise, and a type's
own send function is called only if it is PostgreSQL's.
"""

from __future__ import annotations

from msgspec import Struct

from floodmark.model import Format
from floodmark.source.postgres.columns import ExtractedColumn
from floodmark.source.postgres.types import TEXT, TypeCatalog
from floodmark.source.quoting import quoted


class WireColumn(Struct, frozen=True):
    """A column of a table, and its forms in a statement.

    `kind` is the encoder's name for `value`, an expression of the type `oid`. "raw" is a value that goes as text.
    `newlines` says that its JSON can hold newlines.
    """

    name: str
    kind: str
    value: str
    oid: int = TEXT
    newlines: bool = False

    def field(self, row_format: Format, grouped: bool) -> tuple[str, str, int]:
        """Return the column as the encoder takes it. Only rows in groups come with the oids of their types."""
        raw = self._goes_raw(row_format, grouped)
        return self.name, "raw" if raw else self.kind, TEXT if raw else self.oid

    def sql(self, row_format: Format, grouped: bool) -> str:
        """Return the select-list item."""
        value = self.value
        if self._goes_raw(row_format, grouped):
            value = self._csv_text() if row_format == "csv" else self._json_text()
        return f"{value} AS {quoted(self.name)}"

    def _goes_raw(self, row_format: Format, grouped: bool) -> bool:
        """Return True if the value goes as text.

        An array's binary form can be many times as long as its text. In a group, where all values are small, this does
        not matter. Elsewhere a row could exceed PostgreSQL's limit although its line does not.
        """
        array = self.kind.startswith("array:")
        return self.kind == "raw" or (array and (row_format == "csv" or not grouped))

    def _json_text(self) -> str:
        """Return the value's JSON by the types' own functions: a user's cast from json to text can exist."""
        text = f"textin(json_out(to_json({self.value})))"
        return f"replace(replace({text}, E'\\n', ' '), E'\\r', ' ')" if self.newlines else text

    def _csv_text(self) -> str:
        """Return the value's text by its output function, not by a cast. A null stays null, see `masks`."""
        return f"CASE WHEN {self.value} IS DISTINCT FROM NULL THEN format('%s', {self.value}) END"


def wire_columns(columns: tuple[ExtractedColumn, ...], types: TypeCatalog) -> tuple[WireColumn, ...]:
    """Return the columns of a table, in order."""
    return tuple(_wire_column(column, types) for column in columns)


def _wire_column(column: ExtractedColumn, types: TypeCatalog) -> WireColumn:
    name, oid = column.attribute.name, column.attribute.type
    if column.mask is not None:
        return WireColumn(name, "text", column.expression)
    kind = types.wire_kind(oid)
    if kind == "char":  # some of its bytes are no text in the client's encoding, and versions print them in two ways
        return WireColumn(name, "text", f"textin(charout({column.expression}))")
    return WireColumn(name, kind, column.expression, oid, kind == "raw" and types.raw_newlines(oid))
