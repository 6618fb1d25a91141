"""The versions of PostgreSQL: which are supported, which were tested, and what a newer one may lack.

A server that is newer than the tested ones is read like the newest tested one. Two things can differ there. A setting
can be gone: a run then leaves it out if nothing depends on it, and refuses the server otherwise. A catalog can lack a
column: then the server's own error becomes one that names the version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from floodmark.errors import SourceError
from floodmark.source.base import Drawback
from floodmark.source.postgres.statements import literal

SUPPORTED_FROM = 140000
# The newest major version that the tests ran on. Raise it when they run on a newer server.
TESTED_UP_TO = 18

# Without one of these, a value, the order of rows and the visible rows are the same. What the others control must be
# known: another date style or time zone would be another line, and a hidden row would be a lost one.
_SAFE_WITHOUT = frozenset(
    {
        "enable_tidscan",
        "gin_fuzzy_search_limit",
        "idle_in_transaction_session_timeout",
        "jit",
        "quote_all_identifiers",
        "standard_conforming_strings",
        "transaction_timeout",
        "transform_null_equals",
    }
)
_LACKING = ("42P01", "42703", "42704", "42883")  # an undefined table, column, object or function
_NEWER = "Look for a newer release of Floodmark: its CHANGELOG.md names the versions that it was tested with."


def is_newer(version: int) -> bool:
    """Return True if no test ran on this version. It is a number such as 190001."""
    return version // 10000 > TESTED_UP_TO


def newer_than_tested(version: int) -> Drawback | None:
    """Return what the operator should know about a server that is newer than the tested ones."""
    if not is_newer(version):
        return None
    found = (
        f"the server is PostgreSQL {version // 10000}, and this release of Floodmark was tested with versions up to "
        f"{TESTED_UP_TO}: it reads the server as it would read {TESTED_UP_TO}."
    )
    return Drawback(found, _NEWER, topic="version")


def require_supported(version: int, label: str) -> None:
    """Raise SourceError for a server that is too old."""
    if version < SUPPORTED_FROM:
        raise SourceError(
            "this server is not supported",
            on=label,
            why=f"PostgreSQL {version // 10000}",
            hint="Floodmark reads PostgreSQL 14 and later.",
        )


def settings_to_leave_out(
    connection: psycopg.Connection[Any], version: int, names: Iterable[str], label: str
) -> frozenset[str]:
    """Return the settings that a newer server no longer knows and that nothing depends on. Ask only such a server.

    Raises SourceError if it lacks another one, and what psycopg raises.
    """
    if not is_newer(version):
        return frozenset()
    asked = sorted(names)
    # No search path is pinned yet.
    lacks = ", ".join(f"pg_catalog.current_setting({literal(name)}, true) IS NULL" for name in asked)
    row = connection.execute(f"SELECT {lacks}").fetchone()
    assert row is not None
    unknown = frozenset(name for name, lacking in zip(asked, row, strict=True) if lacking)
    needed = sorted(unknown - _SAFE_WITHOUT)
    if needed:
        raise SourceError(
            "this server is not supported",
            on=label,
            why=f"PostgreSQL {version // 10000} does not know the setting {needed[0]}, which shapes what is read",
            hint=_NEWER,
        )
    return unknown


def lacks_something(error: psycopg.Error, version: int, label: str) -> SourceError | None:
    """Return the error to raise if a newer server lacks a catalog, a column or a function, else None."""
    if not is_newer(version) or error.sqlstate not in _LACKING:
        return None
    return SourceError(
        "this server is not supported",
        on=label,
        why=f"PostgreSQL {version // 10000} lacks something that Floodmark reads (SQLSTATE {error.sqlstate})",
        hint=_NEWER,
    )
