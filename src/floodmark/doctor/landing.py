"""The demands of a landing zone's receiver, as far as names, types and sizes can show them in advance."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import Struct

from floodmark.config import Selection, Settings
from floodmark.doctor.finding import Finding, ok, problem, unknown, warning
from floodmark.doctor.tables import same_in_lower_case
from floodmark.errors import ConfigError
from floodmark.layout import LAYOUTS, Layout, database_segment
from floodmark.model import Numbers, TableName
from floodmark.objects.numbers import DIGITS
from floodmark.observed import TableInfo
from floodmark.source.selection import Pattern

# Every number of up to this many digits fits into 64 bits, where a receiver keeps integers.
MOST_DIGITS = DIGITS - 1
_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?(?:\[\])*\Z")
_TEXT = re.compile(r"(?:ci)?text|name|jsonb?|bpchar|(?:character|(bit))(?: varying)?(?:\((\d+)\))?")
_INTEGERS = "landing: integers"
_INSTEAD_OF_CSV = (
    "If they do: land JSON Lines (format: jsonl) with numbers: quote-large, or mask or exclude the column "
    "(tables.rules.*.columns). docs/consumers.md lists the refused values."
)
# JSON lines are larger than the rows: names are repeated, and numbers are text.
_GROWTH = 3
_SHOWN = 10


class LandingZone(Struct, frozen=True):
    """A place that can be a landing zone: the destination's or a delivery's. `name` prefixes its checks."""

    name: str
    layout: Layout
    database_name: str | None
    setting: str
    numbers: Numbers = "as-is"

    @property
    def refuses_large_numbers(self) -> bool:
        return self.layout.max_object_bytes is not None and self.numbers == "as-is"


def landing_zones(settings: Settings) -> list[LandingZone]:
    """Return the destination and every delivery."""
    chosen = settings.destination
    setting = "destination.database_name"
    found = [LandingZone("landing", LAYOUTS[chosen.layout], chosen.database_name, setting, chosen.numbers)]
    for one in settings.deliver:
        name, setting = f"deliver {one.name}", "its database_name"
        found.append(LandingZone(name, LAYOUTS[one.layout], one.database_name, setting, one.numbers))
    return found


def refuses_json_numbers(settings: Settings) -> bool:
    """Return true if a receiver of JSON Lines refuses large numbers. In CSV, json is text in quotes."""
    return settings.destination.format == "jsonl" and any(one.refuses_large_numbers for one in landing_zones(settings))


def check_landing(
    tables: Sequence[TableInfo], database: str, settings: Settings, default_schema: str
) -> Iterator[Finding]:
    """Yield the findings of all zones, none if no layout has demands. Findings about the tables appear only once."""
    found = landing_zones(settings)
    for zone in found:
        if zone.layout.database_needs_underscore:
            yield check_database_name(database, zone, default_schema)
    limits = [zone.layout.max_object_bytes for zone in found if zone.layout.max_object_bytes is not None]
    if limits and settings.destination.format == "csv":
        yield check_csv_digits(tables, _masked_columns(settings.selection, default_schema))
    elif limits:
        yield from check_integers(tables, [zone for zone in found if zone.refuses_large_numbers])
    if limits:
        yield from check_names(tables)
        yield from check_sizes(tables, min(limits), settings.chunk_bytes)


def check_database_name(database: str, zone: LandingZone, default_schema: str) -> Finding:
    segment = database_segment(zone.layout, database, zone.database_name, TableName(default_schema, "t"))
    if "_" in segment:
        found = f"keys begin with data/database_name={segment}/ (for schema {default_schema})"
        return ok(f"{zone.name}: database name", found)
    fix = f"Set {zone.setting}: {database}_{default_schema}, or another name with an underscore."
    return problem(f"{zone.name}: database name", f"{segment} contains no underscore", fix, ConfigError.exit_code)


def check_integers(tables: Sequence[TableInfo], refusing: Sequence[LandingZone]) -> Iterator[Finding]:
    """Check for columns that can exceed 64 bits, for zones with numbers `as-is`. Types say nothing about jsonb."""
    if not refusing:
        yield ok(_INTEGERS, "large numbers are sent as strings (numbers: quote-large)")
        return
    wide = _columns_of_type(tables, is_wide)
    if not wide:
        yield ok(_INTEGERS, "no column except json can hold an integer beyond 64 bits")
        return
    text = f"{_listed_columns(wide)} can hold an integer beyond 64 bits, for which the receiver refuses the whole file"
    fix = f"If they do, set numbers: quote-large ({', '.join(zone.name for zone in refusing)}) to send them as strings."
    yield warning(_INTEGERS, text, fix)


def check_csv_digits(tables: Sequence[TableInfo], masked: Collection[tuple[TableName, str]]) -> Finding:
    """Check the same for CSV, which has no types: the receiver guesses numbers from a column's content in each file."""
    wide = _columns_of_type(tables, lambda name: is_wide(name) and _is_whole(name))
    text = [one for one in _columns_of_type(tables, is_text) if one not in masked]
    if not wide and not text:
        return ok(_INTEGERS, "no column can hold only digits of a number beyond 64 bits")
    found = []
    if wide:
        found.append(
            f"{_listed_columns(wide)} can hold an integer beyond 64 bits: the receiver can refuse the whole file"
        )
    if text:
        found.append(
            f"the types don't show if {_listed_columns(text)} hold only digits, which CSV readers take for integers"
        )
    return (warning if wide else unknown)(_INTEGERS, "\n".join(found), _INSTEAD_OF_CSV)


def _columns_of_type(tables: Sequence[TableInfo], of_type: Callable[[str], bool]) -> list[tuple[TableName, str]]:
    return [(table.table, column.name) for table in tables for column in table.columns if of_type(column.plain_type)]


def _listed_columns(columns: Sequence[tuple[TableName, str]]) -> str:
    shown = ", ".join(f"{table.label}.{column}" for table, column in columns[:_SHOWN])
    return f"{shown} and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else shown


def _masked_columns(selection: Selection, default_schema: str) -> set[tuple[TableName, str]]:
    """Return the columns whose values never leave the database. No mask yields only digits."""
    rules = [(Pattern(text, default_schema, "tables.rules").table, rule) for text, rule in selection.rules.items()]
    return {(table, column) for table, rule in rules if table is not None for column in rule.columns.mask}


def is_wide(type_name: str) -> bool:
    """Return true if a type holds more than MOST_DIGITS integer digits: numeric with wide bounds or none."""
    match = _NUMERIC.match(type_name)
    if match is None:
        return False
    return match[1] is None or int(match[1]) - int(match[2]) > MOST_DIGITS


def _is_whole(type_name: str) -> bool:
    """Return true if a numeric can be written without a point, and is not an array, which has braces around it."""
    match = _NUMERIC.match(type_name)
    return match is not None and not type_name.endswith("]") and (match[2] is None or int(match[2]) <= 0)


def is_text(type_name: str) -> bool:
    """Return true if a type accepts pure digits, and enough of them for a number beyond 64 bits.

    A type of only zeros and ones accepts one digit more.
    """
    match = _TEXT.fullmatch(type_name)
    return match is not None and (match[2] is None or int(match[2]) > (DIGITS if match[1] is None else DIGITS + 1))


def check_names(tables: Sequence[TableInfo]) -> Iterator[Finding]:
    clashes = [
        f"{table.table.label}: {', '.join(same)}"
        for table in tables
        if (same := same_in_lower_case([column.name for column in table.columns]))
    ]
    same_tables = same_in_lower_case([table.table.label for table in tables])
    if same_tables:
        clashes.append(f"tables {', '.join(same_tables)}")
    if not clashes:
        yield ok("landing: names", "no two tables or columns are the same in lower case")
        return
    found = "\n".join(["these names are equal in lower case, which the receiver's catalogue uses:", *clashes[:_SHOWN]])
    yield warning(
        "landing: names", found, "Leave one out (tables.rules.*.columns.exclude, tables.exclude), or rename it."
    )


def check_sizes(tables: Sequence[TableInfo], most: int, chunk_bytes: int) -> Iterator[Finding]:
    """Check the object sizes. An object is a chunk, or a whole part that can't be cut into chunks."""
    largest = {
        table.table.label: max((chunk_bytes if part.by_block else part.total_bytes) for part in table.parts)
        for table in tables
        if table.parts
    }
    large = [label for label, size in largest.items() if size * _GROWTH > most]
    if not large:
        yield ok("landing: sizes", "every object stays well below 5 GiB")
        return
    found = f"an object of {', '.join(large[:_SHOWN])} can exceed 5 GiB, which the receiver refuses"
    fix = (
        "Lower chunk_size; a table that is read whole (see proof) needs a filter (tables.rules.*.where) or partitions."
    )
    yield warning("landing: sizes", found, fix)
