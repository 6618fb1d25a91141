"""The keys that hold in a table's lines: the rules that all sources share. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from floodmark.config import Mask


class DeclaredKey(Struct, frozen=True):
    """A key that the database enforces: its columns, in its order.

    A `primary` key has no NULL. Several rows can have NULL in another key.
    """

    columns: tuple[str, ...]
    primary: bool = False


class LandedKeys(Struct, frozen=True):
    """The keys whose values differ in each line. `unique` holds those other than the primary key, in a fixed order."""

    primary: tuple[str, ...] | None = None
    unique: tuple[tuple[str, ...], ...] = ()


NO_KEYS = LandedKeys()


def keeps_apart(mask: Mask | None) -> bool:
    """Return True if different values stay different behind a mask."""
    return mask is None or mask == "hash"


def landed_keys(declared: Iterable[DeclaredKey], distinct: Collection[str]) -> LandedKeys:
    """Return the keys that lines hold as a whole. `distinct` are the extracted columns whose values stay different."""
    held = [key for key in declared if key.columns and all(name in distinct for name in key.columns)]
    primary = next((key.columns for key in held if key.primary), None)
    return LandedKeys(primary, tuple(sorted({key.columns for key in held} - {primary})))
