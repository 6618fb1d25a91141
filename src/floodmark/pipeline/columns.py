"""The change of a table's columns in words: names and types, never a value, and at most a line or two."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from floodmark.model import Column

# The number of names of each kind that are shown.
SHOWN = 5
# PostgreSQL's names have at most 63 bytes. Names in other sources, and names of types, can have any length.
_LONGEST = 64


def same_columns(before: Sequence[Column], now: Sequence[Column]) -> bool:
    """Return True if these are the same columns.

    An older release wrote no base of a domain. If the old column has no base, it might have had the base that it has
    now: a base that is newly recorded is no change in the source. Comments do not count.
    """
    return len(before) == len(now) and all(map(_is_same, before, now))


def _is_same(old: Column, new: Column) -> bool:
    base = new.base if old.base is not UNSET else UNSET
    return (old.name, old.type, old.nullable, old.base) == (new.name, new.type, new.nullable, base)


def column_changes(before: Sequence[Column], now: Sequence[Column]) -> str | None:
    """Return which columns were added, which were removed and whose type changed, or None if no column did.

    A renamed column counts as one removed and one added.
    """
    then, there = {one.name: one for one in before}, {one.name: one for one in now}
    other = [(then[name], one) for name, one in there.items() if name in then]
    changes = [(new.name, how) for old, new in other if (how := _type_change(old, new))]
    found = (
        ("added", [_short_name(name) for name in there if name not in then]),
        ("removed", [_short_name(name) for name in then if name not in there]),
        ("type changed", [f"{_short_name(name)} ({how})" for name, how in changes]),
    )
    text = "; ".join(f"{what}: {list_names(names)}" for what, names in found if names)
    return None if not text else text if text.startswith("type") else f"columns {text}"


def _type_change(old: Column, new: Column) -> str | None:
    """Return the old and the new type. The base of a domain is shown only if nothing but the base changed."""
    if old.type != new.type:
        return f"{_short_name(old.type)} to {_short_name(new.type)}"
    if old.base is UNSET or new.base is UNSET or old.base == new.base:
        return None
    return f"{_short_name(old.type)}, {_short_name(old.base)} to {_short_name(new.type)}, {_short_name(new.base)}"


def list_names(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _short_name(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
