"""Transactions on several connections that show one moment.

`START TRANSACTION WITH CONSISTENT SNAPSHOT` takes an InnoDB snapshot on one connection, and MySQL has no way to import
one on another. There are two ways to take the same one on several connections:

- By the binary log (MariaDB, no rights needed): all connections start at once, and each is told the position in the
  binary log that its snapshot has. MariaDB takes both under one lock, and a commit moves the position. So equal
  positions mean that no commit came between, if each commit is logged. This is not so with a filter (`binlog_do_db`),
  which only a role with BINLOG MONITOR can rule out, nor on a replica that does not log what it applies. A session that
  switches its own log off (`sql_log_bin = 0`, a right of administrators) is not seen either. The server keeps the two
  status variables in memory that all sessions share while it answers, so two questions at once can both give the
  position of one session. Our connections ask one after the other, and each some times, for someone else may ask too.
- Under a lock for all commits, held while the transactions start, some milliseconds: BACKUP STAGE BLOCK_COMMIT
  (MariaDB) or FLUSH TABLES WITH READ LOCK (MySQL), for a role with RELOAD. It is not waited for longer than a second.
  If this process or its network dies meanwhile, the server ends the session, and so the lock, after ten seconds.

Else one connection reads everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from msgspec import Struct
from sqlalchemy import Connection

from floodmark.source.base import Drawback
from floodmark.source.mysql.refusals import is_lost, number_of
from floodmark.wording import plural

_START = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
_TRIES = 20
_READINGS = 5
_SECONDS_FOR_THE_LOCK = 1
_SECONDS_WITH_THE_LOCK = 10
# No right to the lock, or another session that keeps it from us.
_NO_LOCK = (1044, 1045, 1142, 1205, 1227, 3169)
_HINT_MARIADB = "GRANT BINLOG MONITOR ON *.* TO the user, if the server keeps a binary log, or GRANT RELOAD ON *.*."
_HINT_MYSQL = "GRANT RELOAD ON *.* TO the user."


class SharedMoment(Struct, frozen=True):
    """The connections whose transactions show one moment, first come first. `how` says how that is known."""

    connections: tuple[Connection, ...]
    how: str
    drawback: Drawback | None = None


def start_shared(connections: Sequence[Connection], holder: Connection, maria: bool) -> SharedMoment:
    """Start a transaction on each connection, all with the same snapshot. The rest, if any, is not in the result.

    `holder` is another connection, which holds the lock if it needs one.
    """
    if len(connections) == 1:
        connections[0].exec_driver_sql(_START)
        return SharedMoment(tuple(connections), "one repeatable-read transaction")
    if maria and _logs_every_commit(connections[0]):
        shared = _start_by_binary_log(connections)
        if len(shared) > 1:
            number = plural(len(shared), "connection")
            how = f"repeatable-read transactions on {number}, at one position of the binary log"
            return SharedMoment(shared, how)
    if _start_under_lock(connections, holder, maria):
        how = f"repeatable-read transactions on {plural(len(connections), 'connection')}, started under one lock"
        return SharedMoment(tuple(connections), how)
    connections[0].exec_driver_sql(_START)
    found = "other connections can't be shown to have the same snapshot: one connection reads everything, slowly."
    hint = _HINT_MARIADB if maria else _HINT_MYSQL
    return SharedMoment(tuple(connections[:1]), "one repeatable-read transaction", Drawback(found, hint))


def _logs_every_commit(connection: Connection) -> bool:
    """Return True if the role can see that the binary log gets every commit."""
    ((log_bin, updates),) = connection.exec_driver_sql("SELECT @@log_bin, @@log_slave_updates").all()
    if not int(log_bin) or not (int(updates) or _applies_nothing(connection)):
        return False
    try:
        row = connection.exec_driver_sql("SHOW MASTER STATUS").first()
    except Exception as error:
        if is_lost(error):
            raise
        return False
    return row is not None and not row[2] and not row[3]


def _applies_nothing(connection: Connection) -> bool:
    """Return True if no thread applies another server's changes, which would not be logged here."""
    question = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Slaves_running', 'Wsrep_cluster_size')"
    return all(int(value) == 0 for _, value in connection.exec_driver_sql(question).all())


def _start_by_binary_log(connections: Sequence[Connection]) -> tuple[Connection, ...]:
    """Start all at once until all have one position, or return the most that have one after the last try."""
    best: tuple[Connection, ...] = ()
    with ThreadPoolExecutor(len(connections)) as threads:
        for _ in range(_TRIES):
            barrier = Barrier(len(connections))
            started = [threads.submit(_start_at_once, one, barrier) for one in connections]
            for one in started:
                one.result()
            positions = _positions(connections)
            position, number = Counter(positions).most_common(1)[0]
            pairs = zip(connections, positions, strict=True)
            best = tuple(one for one, at in pairs if position and at == position)
            if number == len(connections):
                break
    return best if _applies_nothing_or_logs(connections[0]) else ()


def _applies_nothing_or_logs(connection: Connection) -> bool:
    """Ask again after the snapshots: a replica's threads can have been started meanwhile."""
    ((updates,),) = connection.exec_driver_sql("SELECT @@log_slave_updates").all()
    return bool(int(updates)) or _applies_nothing(connection)


def _start_at_once(connection: Connection, barrier: Barrier) -> None:
    """Start a transaction together with the others."""
    barrier.wait(60)
    connection.exec_driver_sql(_START)


def _positions(connections: Sequence[Connection]) -> list[str]:
    """Return the position of each snapshot, empty for one that has none or gave more than one."""
    found: list[set[str]] = [set() for _ in connections]
    for _ in range(_READINGS):
        for connection, readings in zip(connections, found, strict=True):
            readings.add(_position(connection))
    return [readings.pop() if len(readings) == 1 else "" for readings in found]


def _position(connection: Connection) -> str:
    """Return the position in the binary log that the server gives now, empty if it has none."""
    rows = connection.exec_driver_sql("SHOW STATUS LIKE 'binlog_snapshot_%%'").all()
    found = {str(name).lower(): str(value) for name, value in rows}
    file, position = found.get("binlog_snapshot_file", ""), found.get("binlog_snapshot_position", "")
    return f"{file}:{position}" if file else ""


def _start_under_lock(connections: Sequence[Connection], holder: Connection, maria: bool) -> bool:
    """Start all while no transaction can commit. Return False if the role may not, or if the lock is not free soon."""
    ((idle,),) = holder.exec_driver_sql("SELECT @@wait_timeout").all()
    holder.exec_driver_sql(
        f"SET SESSION lock_wait_timeout = {_SECONDS_FOR_THE_LOCK}, SESSION wait_timeout = {_SECONDS_WITH_THE_LOCK}"
    )
    statements = ("BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT") if maria else ("FLUSH TABLES WITH READ LOCK",)
    begun = False
    try:
        for statement in statements:
            holder.exec_driver_sql(statement)
            begun = True
        for one in connections:
            one.exec_driver_sql(_START)
    except Exception as error:
        if is_lost(error) or number_of(error) not in _NO_LOCK:
            raise
        return False
    finally:
        if begun:
            holder.exec_driver_sql("BACKUP STAGE END" if maria else "UNLOCK TABLES")
        holder.exec_driver_sql(f"SET SESSION wait_timeout = {int(idle)}")
    return True
