"""The history of a server, and what interrupts it. Transaction ids compare only within one history."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

# The fields that can differ between two lineages, each with its meaning. `stats_reset` is compared separately.
_INTERRUPTIONS = (
    ("system_identifier", "the server is another one"),
    ("database_oid", "the database is another one"),
    ("database_xmin", "the database's catalog row changed: GRANT, ALTER DATABASE, or it was created again"),
    ("started_at", "the server was restarted, or it is another one"),
    ("in_recovery", "a standby was promoted, or a primary became a standby"),
)


class Lineage(Struct, frozen=True):
    """One uninterrupted history of a server, within which transaction ids compare.

    `stats_reset` is that of pg_stat_bgwriter. The last two are those of pg_stat_archiver and pg_stat_wal. They are
    missing in documents of release 0.1.0.
    """

    system_identifier: str
    database_oid: int
    database_xmin: str
    started_at: str
    stats_reset: str | None
    in_recovery: bool
    archiver_reset: str | UnsetType = UNSET
    wal_reset: str | UnsetType = UNSET

    def interruption(self, later: Lineage) -> str | None:
        """Return what interrupted the history between the two, or None if nothing did."""
        for name, why in _INTERRUPTIONS:
            if getattr(self, name) != getattr(later, name):
                return f"{why} ({name} differs)"
        if self.stats_reset != later.stats_reset and not self._other_statistics_last(later):
            return "statistics were reset, or the server recovered from a crash (stats_reset differs)"
        return None

    def _other_statistics_last(self, later: Lineage) -> bool:
        """Return True if two other kinds of statistics were not reset: a crash resets all of them at once."""
        if None in (self.stats_reset, later.stats_reset) or UNSET in (self.archiver_reset, self.wal_reset):
            return False
        return (self.archiver_reset, self.wal_reset) == (later.archiver_reset, later.wal_reset)


def same_history(then: Lineage | None, now: Lineage | None) -> bool:
    """Return True if nothing interrupted the history between two snapshots, or if neither has one."""
    if then is None or now is None:
        return then is now
    return then.interruption(now) is None
