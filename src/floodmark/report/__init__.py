"""The HTML report of states: what is fresh, what changed, what failed, table by table and night by night.

`read_history` reads a ledger into small facts. `render_html` makes one file of them that needs no network.
"""

from __future__ import annotations

from floodmark.report.facts import StateHistory, UnreadState
from floodmark.report.history import read_history
from floodmark.report.page import render_html

__all__ = ["StateHistory", "UnreadState", "read_history", "render_html"]
