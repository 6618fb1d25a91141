"""The cases of the benchmark by name, in the order of the report. bench/README.md describes what a case must offer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import import_module

from bench import cases, full, memory
from bench.outcome import Outcome, Skipped
from bench.session import Session

Case = Callable[[Session], list[Outcome]]


def _module(name: str) -> Case:
    """Return the `outcomes` of a module of bench, which is imported when the case runs."""

    def outcomes(session: Session) -> list[Outcome]:
        if importlib.util.find_spec(f"bench.{name}") is None:
            raise Skipped(f"there is no bench/{name}.py")
        found: Case | None = getattr(import_module(f"bench.{name}"), "outcomes", None)
        if found is None:
            raise Skipped(f"bench/{name}.py has no function `outcomes`")
        return found(session)

    return outcomes


# The updates of `updated` leave dead rows behind in the large table, so it comes after the cases that read that table.
CASES: dict[str, Case] = {
    "start": cases.start,
    "full": full.outcomes,
    "parts": _module("parts"),
    "unchanged": cases.unchanged,
    "days": cases.days,
    "wal": _module("summaries"),
    "load": _module("load"),
    "small": cases.small,
    "appended": cases.appended,
    "updated": cases.updated,
    "memory": memory.outcomes,
    "journal": _module("journal"),
    "mysql": _module("mysql"),
    "scale": _module("scale"),
    "cluster": _module("cluster"),
}
