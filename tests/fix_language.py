"""Words that Floodmark's texts avoid, in one list for the help, the sources and the documents."""

from __future__ import annotations

import re

# Archaic or poetic words, and phrases that a newcomer has to read twice. Plain English has another word for each.
ARCHAIC: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)\banew\b",
        r"(?i)\bmend(s|ed|ing)?\b",
        r"(?i)\bamiss\b",
        r"(?i)\bbesides?\b",
        r"(?i)\bsave\s+for\b",
        r"(?i)\bthus\b",
        r"(?i)\bhangs?\s+on\b",
        r"(?i)(?<!-)\bstands?\b(?!-)",
        r"(?i)\bin\s+vain\b",
        r"(?i)\bso\s+many\b",
        r"(?i)\balone\b",
        r"\bis\s+none\b",  # not Python's `is None`
        r"(?i)\bof\s+which\b",
        r"(?i)\bcome\s+what\s+may\b",
    )
)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def archaic_words(text: str) -> list[str]:
    """Every avoided word in a text, with what is around it. Code in backquotes can hold any word."""
    prose = _CODE.sub("``", text)
    return [
        " ".join(prose[max(0, found.start() - 30) : found.end() + 30].split())
        for pattern in ARCHAIC
        for found in pattern.finditer(prose)
    ]
