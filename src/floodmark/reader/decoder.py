"""The compiled decoder of lines, `floodmark.native.decoder`. An installation can lack it.

Without it, Python reads all lines. Both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from floodmark.native import is_of_this_version
from floodmark.reader.types import ColumnType

if TYPE_CHECKING:
    from floodmark.native.decoder import Decoder


def is_built() -> bool:
    """Return true if the compiled decoder can be used: it was built for this system, from this version."""
    return _compiled() is not None


def line_decoder(names: Sequence[str], types: Sequence[ColumnType], infinite: bool) -> Decoder | None:
    """Return a new decoder for a table's lines, or None if it was not built.

    If `infinite` is true, infinite dates and timestamps become DuckDB's numbers for them.
    """
    module = _compiled()
    if module is None:
        return None
    described = [(one.kind, one.precision, one.scale) for one in types]
    decoder: Decoder = module.Decoder([msgspec.json.encode(name) for name in names], described, infinite)
    return decoder


@cache
def _compiled() -> Any | None:
    try:
        found = import_module("floodmark.native.decoder")
    except ImportError:  # it was not built, or it was built for another system
        return None
    return found if is_of_this_version(found) else None
