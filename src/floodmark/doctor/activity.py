"""Other activity at the server: old transactions, limits, connections. One function asks, another judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from floodmark.doctor.finding import Finding, ok, unknown, warning
from floodmark.doctor.server import ServerConnection
from floodmark.wording import plural

# An older transaction holds back something that a nightly run needs.
OLD = 15 * 60  # seconds
# Autovacuum should have frozen rows long before. At two billion the server refuses writes.
OLD_XIDS = 1_000_000_000
_SHOWN = 5
_HELD_BACK = "what was written since it began can't be proven unchanged, and is read again each run"


class OpenTransaction(Struct, frozen=True, array_like=True):
    """A session with an old transaction. `writes`: it has a transaction id, and so holds back what can be proven."""

    pid: int
    role: str | None
    state: str | None
    seconds: int
    writes: bool


class PreparedTransaction(Struct, frozen=True, array_like=True):
    gid: str
    owner: str
    database: str
    seconds: int


class FreeConnections(Struct, frozen=True, array_like=True):
    """The number of further connections that the server, the role and the database accept. None means no limit."""

    server: int
    role: int | None
    database: int | None


def check_transactions(server: ServerConnection, old: int = OLD) -> Iterator[Finding]:
    rows = server.rows(
        "SELECT pid, usename::text, state, extract(epoch FROM now() - xact_start)::bigint, backend_xid IS NOT NULL "
        f"FROM pg_stat_activity WHERE xact_start <= now() - interval '{old} seconds' AND pid <> pg_backend_pid() "
        "AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) AND backend_type = 'client backend' "
        "AND (datname = current_database() OR backend_xid IS NOT NULL) ORDER BY xact_start"
    )
    (hidden,) = server.row(
        "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>' AND datid IS NOT NULL"
    )
    yield judged_sessions([OpenTransaction(*row) for row in rows], hidden, server.role)


def judged_sessions(sessions: Sequence[OpenTransaction], hidden: int, role: str) -> Finding:
    """Judge sessions with old transactions. `hidden` counts sessions of others that could not be inspected. Pure."""
    check = "transactions"
    if sessions:
        worst = sorted(sessions, key=lambda one: not one.writes)[:_SHOWN]
        found = "\n".join(
            f"pid {one.pid} ({one.role}, {one.state}) has been in a transaction for {one.seconds // 60} min: "
            + (_HELD_BACK if one.writes else "it holds back vacuum")
            for one in worst
        )
        ends = "; ".join(f"SELECT pg_terminate_backend({one.pid})" for one in worst)
        return warning(check, found, f"Ask its owner. If nobody needs it: {ends};")
    if hidden:
        found = f"{plural(hidden, 'session')} of other roles can't be inspected"
        return unknown(check, found, f"GRANT pg_read_all_stats TO {role}; it gives no right to any table.")
    return ok(check, f"none is older than {OLD // 60} min")


def check_prepared(server: ServerConnection, old: int = OLD) -> Iterator[Finding]:
    rows = server.rows(
        "SELECT gid, owner::text, database::text, extract(epoch FROM now() - prepared)::bigint FROM pg_prepared_xacts "
        f"WHERE prepared <= now() - interval '{old} seconds' ORDER BY prepared"
    )
    yield judged_prepared([PreparedTransaction(*row) for row in rows])


def judged_prepared(found: Sequence[PreparedTransaction]) -> Finding:
    if not found:
        return ok("prepared transactions", "none is left over")
    shown = found[:_SHOWN]
    text = "\n".join(
        f"one of {one.owner} in {one.database} was prepared {one.seconds // 60} min ago: {_HELD_BACK}" for one in shown
    )
    ends = " ".join("ROLLBACK PREPARED '" + one.gid.replace("'", "''") + "';" for one in shown)
    fix = f"In that database, if its transaction manager no longer knows it: {ends} (or COMMIT PREPARED)"
    return warning("prepared transactions", text, fix)


def check_xid_age(server: ServerConnection) -> Iterator[Finding]:
    name, age = server.row("SELECT datname::text, age(datfrozenxid) FROM pg_database ORDER BY 2 DESC LIMIT 1")
    yield judged_xid_age(name, age)


def judged_xid_age(database: str, age: int) -> Finding:
    if age < OLD_XIDS:
        return ok("xid age", f"{age:,} at most, in {database}")
    found = f"database {database} is {age:,} transactions old; at 2,100,000,000 the server accepts no more writes"
    fix = f"Connect to {database} and run VACUUM (FREEZE); first end old transactions and drop dead replication slots."
    return warning("xid age", found, fix)


def check_time_limits(server: ServerConnection) -> Iterator[Finding]:
    settings = dict(
        server.rows(
            "SELECT name, reset_val::bigint FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', "
            "'idle_in_transaction_session_timeout', 'transaction_timeout', 'idle_session_timeout')"
        )
    )
    yield judged_time_limits(settings, server.settings.limits.statement_timeout)


def judged_time_limits(settings: dict[str, int], statement_timeout: int) -> Finding:
    """Judge the limits, in milliseconds by setting, 0 for none. A run sets all but one in each transaction. Pure."""
    idle = settings.get("idle_session_timeout", 0)
    if idle:
        found = f"idle_session_timeout ends an idle connection after {idle / 1000:g} s; Floodmark then reconnects"
        return warning(
            "time limits", found, "For the role that Floodmark uses: ALTER ROLE … SET idle_session_timeout = 0;"
        )
    pinned = [name for name, value in sorted(settings.items()) if value]
    set_ones = f"{', '.join(pinned)} set here have no effect: " if pinned else ""
    return ok(
        "time limits", f"{set_ones}a run sets its own, {statement_timeout} s per statement (limits.statement_timeout)"
    )


def check_connections(server: ServerConnection) -> Iterator[Finding]:
    row = server.row(
        "SELECT (current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint"
        " - coalesce(current_setting('reserved_connections', true), '0')::bigint"
        " - (SELECT sum(numbackends) FROM pg_stat_database WHERE datid <> 0))::bigint,"
        " (SELECT rolconnlimit - (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = r.rolname)"
        "  FROM pg_roles r WHERE rolname = current_user AND rolconnlimit >= 0),"
        " (SELECT datconnlimit - (SELECT numbackends FROM pg_stat_database s WHERE s.datid = d.oid)"
        "  FROM pg_database d WHERE datname = current_database() AND datconnlimit >= 0)"
    )
    yield judged_room(FreeConnections(*row), server.settings.limits.connections, server.role)


def judged_room(room: FreeConnections, wanted: int, role: str) -> Finding:
    """Judge the free connections.

    A run takes limits.connections plus one; doctor's own is one of those in use. Pure.
    """
    known = {"max_connections": room.server, "the role's limit": room.role, "the database's limit": room.database}
    tightest, left = min(((name, left) for name, left in known.items() if left is not None), key=lambda one: one[1])
    needed, left = wanted + 1, left + 1
    if left >= needed:
        return ok("connections", f"{left} are free, a run needs {needed}")
    fix = (
        f"Set limits.connections: {max(1, left - 1)}, or raise the limit: ALTER ROLE {role} CONNECTION LIMIT {needed};"
    )
    if tightest == "max_connections":
        fix = f"Set limits.connections: {max(1, left - 1)}, or raise max_connections."
    return warning("connections", f"{left} are free ({tightest}), a run needs {needed}", fix)


CHECKS: Sequence[tuple[str, Callable[[ServerConnection], Iterator[Finding]]]] = (
    ("transactions", check_transactions),
    ("prepared transactions", check_prepared),
    ("xid age", check_xid_age),
    ("time limits", check_time_limits),
    ("connections", check_connections),
)
