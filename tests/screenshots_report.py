"""Pictures of the report for the README and the docs: `make screenshots` writes docs/images/report*.webp.

They are of an invented history of several weeks, in a real Chromium. Without Chromium they stay as they are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from fix_chromium import chromium, chromium_path
from fix_report import NOW, nightly_states
from floodmark.report import render_html

IMAGES = Path(__file__).parents[1] / "docs" / "images"


class Shot(NamedTuple):
    """A picture of the report: its name, a place in it, the theme, the window's width, and the picture's height."""

    name: str
    place: str
    theme: str
    width: int
    height: int


SHOTS = (
    Shot("report", "#/", "light", 1240, 1190),
    Shot("report-database", "#/cases", "light", 1240, 1710),
    Shot("report-dark", "#/cases", "dark", 1240, 1180),
    Shot("report-table", "#/cases/public/audit_event", "light", 1240, 1140),
    Shot("report-phone", "#/", "light", 390, 1180),
    Shot("report-phone-dark", "#/cases", "dark", 390, 1180),
)


def report_pictures(folder: Path) -> None:
    """Write the pictures of the report."""
    page = folder / "report.html"
    page.write_text(render_html(nightly_states(), NOW), encoding="utf-8")
    with chromium(folder / "profile") as browser:
        for shot in SHOTS:
            browser.size(shot.width, 900)
            browser.theme(shot.theme)
            browser.open(page, shot.place)
            browser.picture(IMAGES / f"{shot.name}.webp", shot.height, format="webp", quality=82)


def main() -> None:
    if chromium_path() is None:
        print("chromium is not installed: the pictures of the report stay as they are")
        return
    with tempfile.TemporaryDirectory() as name:
        report_pictures(Path(name))


if __name__ == "__main__":
    main()
