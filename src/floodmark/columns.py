"""What became of a table's columns, in words: names and types, never a value, and never longer than a line or two."""

from __future__ import annotations

from collections.abc import Sequence

from floodmark.model import Column

# So many names of each kind are told.
SHOWN = 5
# PostgreSQL's names have at most 63 bytes; other sources' may have any number, and so may a type's.
_LONGEST = 64


def difference(before: Sequence[Column], now: Sequence[Column]) -> str | None:
    """Which columns were added, which are gone, and whose type is another; None where there is none such.

    A column that was renamed is one that is gone and another that was added.
    """
    then, types = {one.name: one.type for one in before}, {one.name: one.type for one in now}
    other = [name for name, kind in types.items() if then.get(name, kind) != kind]
    found = (
        ("added", [_short(name) for name in types if name not in then]),
        ("removed", [_short(name) for name in then if name not in types]),
        ("type changed", [f"{_short(name)} ({_short(then[name])} to {_short(types[name])})" for name in other]),
    )
    text = "; ".join(f"{what}: {_listed(names)}" for what, names in found if names)
    return None if not text else text if text.startswith("type") else f"columns {text}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
