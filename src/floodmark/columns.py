"""What became of a table's columns, in words: names and types, never a value, and never longer than a line or two."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from floodmark.model import Column

# So many names of each kind are told.
SHOWN = 5
# PostgreSQL's names have at most 63 bytes; other sources' may have any number, and so may a type's.
_LONGEST = 64


def alike(before: Sequence[Column], now: Sequence[Column]) -> bool:
    """Whether these are the same columns. One of which no base was told may have had the one it has now: entries that
    an older release wrote name none, and to name it is no change of the source's."""
    then = (one if old.base is not UNSET else replace(one, base=UNSET) for old, one in zip(before, now, strict=False))
    return len(before) == len(now) and tuple(before) == tuple(then)


def difference(before: Sequence[Column], now: Sequence[Column]) -> str | None:
    """Which columns were added, which are gone, and whose type is another; None where there is none such.

    A column that was renamed is one that is gone and another that was added.
    """
    then, there = {one.name: one for one in before}, {one.name: one for one in now}
    other = [(then[name], one) for name, one in there.items() if name in then]
    found = (
        ("added", [_short(name) for name in there if name not in then]),
        ("removed", [_short(name) for name in then if name not in there]),
        ("type changed", [f"{_short(one.name)} ({told})" for old, one in other if (told := _retyped(old, one))]),
    )
    text = "; ".join(f"{what}: {_listed(names)}" for what, names in found if names)
    return None if not text else text if text.startswith("type") else f"columns {text}"


def _retyped(old: Column, new: Column) -> str | None:
    """One type to the other. A domain's base is told where that alone is another."""
    if old.type != new.type:
        return f"{_short(old.type)} to {_short(new.type)}"
    if old.base is UNSET or new.base is UNSET or old.base == new.base:
        return None
    return f"{_short(old.type)}, {_short(old.base)} to {_short(new.type)}, {_short(new.base)}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
