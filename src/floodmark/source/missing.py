"""The words for a column that a filter uses and the table does not have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*")
_HINT = "Write one SQL condition on its own columns. A text in it needs single quotes."


def missing_column(word: str, name: str, columns: Sequence[str]) -> tuple[str, str]:
    """Return why a filter is refused, and a hint. `word` is in the filter, `name` the column that it would mean.

    The word can be a text in the wrong quotes, or in none: then it is what a row holds. So it is shown only if it is
    near a column's name, or a plain name in lower case.
    """
    close = get_close_matches(name, columns, n=3)
    if close:
        return f"the table has no column {word}", f"Did you mean {' or '.join(close)}?"
    if _PLAIN_NAME.fullmatch(word):
        return f"the table has no column {word}", _HINT
    return "it uses a column that the table does not have", _HINT
