"""The report's colours: enough contrast in both themes, and one dark theme however it is chosen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import floodmark.report

STYLE = (Path(floodmark.report.__file__).parent / "assets" / "report.css").read_text(encoding="utf-8")
# A text and what is below it: WCAG 2 asks for 4.5 for text of this size.
TEXTS = (
    *(("soft", place) for place in ("bg", "card", "faint")),
    *(("ink", place) for place in ("bg", "card", "faint")),
    ("accent", "bg"), ("accent", "card"), ("good", "good-bg"), ("warn", "warn-bg"), ("bad", "bad-bg"),
    ("note", "note-bg"), ("stop", "stop-bg"),
    *(("on-fill", place) for place in ("success", "partial", "failed", "stopped", "changed", "new", "dropped")),
    *(("on-pale", place) for place in ("unchanged", "identical", "faint")),
)  # fmt: skip


def themes() -> dict[str, dict[str, str]]:
    """The colours of each theme, by name."""
    blocks = re.findall(r"(:root[^{]*)\{([^}]*--bg:[^}]*)\}", STYLE)
    return {name.strip(): dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6});", body)) for name, body in blocks}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_dark_theme_is_the_same_by_the_button_and_by_the_system() -> None:
    light, *dark = themes().values()
    assert len(dark) == 2 and dark[0] == dark[1] and dark[0].keys() == light.keys()


@pytest.mark.parametrize("theme", themes())
def test_texts_can_be_read(theme: str) -> None:
    colours = themes()[theme]
    weak = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in TEXTS}
    assert {pair: found for pair, found in weak.items() if found < 4.5} == {}


@pytest.mark.parametrize("theme", themes())
def test_what_moved_differs_from_what_stayed_without_its_hue(theme: str) -> None:
    colours = themes()[theme]
    assert contrast(colours["changed"], colours["unchanged"]) >= 3
