"""A check of PostgreSQL's WAL summaries: do they spare the count of rows, and what would the DBA set?

One function asks, another judges.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from floodmark.doctor.finding import Finding, ok, warning
from floodmark.doctor.server import ServerConnection

CHECK = "wal summaries"
_SUMMARIES_FROM = 170000
_COUNTED = "each run counts the rows of all chunks"
_SPARED = "a run counts rows only where a block was written since the last one"


class WalOffer(Struct, frozen=True, array_like=True):
    """The facts about a server's summaries. `readable`: the role may call the functions that read them."""

    summarize: bool
    in_recovery: bool
    minimal: bool
    readable: bool
    may_checkpoint: bool


def check_wal_summaries(server: ServerConnection) -> Iterator[Finding]:
    version = server.connection.info.server_version
    if version < _SUMMARIES_FROM:
        yield ok(CHECK, f"PostgreSQL {version // 10000} has none (17 has), so {_COUNTED}")
        return
    row = server.row(
        "SELECT current_setting('summarize_wal') = 'on', pg_is_in_recovery(), "
        "current_setting('wal_level') = 'minimal', "
        "has_function_privilege('pg_available_wal_summaries()', 'EXECUTE') "
        "AND has_function_privilege('pg_wal_summary_contents(bigint, pg_lsn, pg_lsn)', 'EXECUTE') "
        "AND has_function_privilege('pg_control_checkpoint()', 'EXECUTE') "
        "AND has_function_privilege('pg_current_wal_insert_lsn()', 'EXECUTE'), "
        "pg_has_role('pg_checkpoint', 'USAGE')"
    )
    yield judged_offer(WalOffer(*row), server.role, server.settings.limits.wal_summary_wait)


def judged_offer(offer: WalOffer, role: str, wait: int) -> Finding:
    """Judge a server's offer. `wait` is the longest wait in seconds."""
    if offer.in_recovery:
        return ok(CHECK, f"not used on a standby: {_COUNTED}")
    if not offer.summarize:
        restart = "wal_level = replica, a restart, " if offer.minimal else ""
        how = f"{restart}ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();"
        return ok(CHECK, f"off, so {_COUNTED}. To spare that: {how}")
    if not offer.readable:
        fix = (
            "GRANT EXECUTE ON FUNCTION pg_available_wal_summaries(), pg_wal_summary_contents(bigint, pg_lsn, pg_lsn), "
            f"pg_control_checkpoint(), pg_current_wal_insert_lsn() TO {role};"
        )
        return warning(CHECK, f"on, but the role may not read them, so {_COUNTED}", fix)
    if not wait:
        return ok(CHECK, f"on: {_SPARED}, as far as summaries are there (limits.wal_summary_wait is 0)")
    if offer.may_checkpoint:
        return ok(CHECK, f"on: {_SPARED}. A run waits up to {wait} s, and can make a checkpoint (pg_checkpoint)")
    found = f"on: {_SPARED}. A run waits up to {wait} s for a checkpoint that is due, and counts if none is"
    return ok(CHECK, f"{found}. To let it make one: GRANT pg_checkpoint TO {role};")
