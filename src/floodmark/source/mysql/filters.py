"""Row filters: what the server would accept, and Floodmark does not, because it could mean something else.

A filter is read with an empty sql_mode. If the server's own mode gives a character another meaning, then the user's
text had that meaning where it was tried, so it is refused. A filter must not read other tables: nothing would show that
they are those of the snapshot.
"""

from __future__ import annotations

import re

_QUOTED = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`]|``)*`|/\*.*?\*/|--[ \t].*?$|\#.*?$""",
    re.DOTALL | re.MULTILINE,
)
_OTHER_TABLES = re.compile(r"\b(?:SELECT|VALUES|TABLE)\b", re.IGNORECASE)
_ASSIGNS = re.compile(r":=|\bINTO\b", re.IGNORECASE)
# Modes that change the meaning of a text, with the text.
_MODES = (
    ("ANSI_QUOTES", '"', "Write names in backticks and texts in single quotes."),
    ("NO_BACKSLASH_ESCAPES", "\\", "Write it without a backslash, such as CHAR(92)."),
    ("PIPES_AS_CONCAT", "||", "Write CONCAT(…) or OR."),
)


def refused_text(where: str, sql_mode: str) -> tuple[str, str] | None:
    """Return why a filter is refused by its text, and a hint. None: it is not. `sql_mode` is the server's own."""
    modes = set(sql_mode.upper().split(","))
    for mode, part, hint in _MODES:
        if mode in modes and part in where:
            return f"it holds {part}, which means something else in the server's sql_mode ({mode})", hint
    bare = _QUOTED.sub(" ", where)
    if _OTHER_TABLES.search(bare):
        return "it holds a subquery", "Write one SQL condition on the table's own columns."
    if _ASSIGNS.search(bare):
        return "it assigns a variable", "Write one SQL condition on the table's own columns."
    return None
