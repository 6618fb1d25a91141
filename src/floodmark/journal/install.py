"""The journal in and out: the migrations, the rights to read it, its removal, and the deletion of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from floodmark.errors import ConfigError, SourceError
from floodmark.events import Observer
from floodmark.journal import migrate
from floodmark.journal.catalog import Installation, read_catalog, read_installation
from floodmark.journal.change import WantedChange, apply, require_installed
from floodmark.journal.connection import LOCK_MILLISECONDS, JournalConnection, failure
from floodmark.journal.plan import Family, drop_change
from floodmark.source.postgres.address import ServerAddress
from floodmark.source.postgres.journal_names import REVISION, SCHEMA
from floodmark.source.quoting import quoted

_INSTALL, _REMOVE, _TRIM = "can't install the journal", "can't remove the journal", "can't trim the journal"
_PUBLISHED = "SELECT pubname FROM pg_publication WHERE puballtables ORDER BY 1"
_MAY_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE')"
_OWNS_SCHEMA = f"SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = '{SCHEMA}'"
_ROLE = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)"
_DROP_SCHEMA = (f"DROP TABLE {SCHEMA}.alembic_version", f"DROP SCHEMA {SCHEMA}")


class Installed(Struct, frozen=True):
    """The revision before and after an installation. `before` is None if there was no journal."""

    before: str | None
    after: str


class Trimmed(Struct, frozen=True):
    """The rows that a trim deleted, and the floor after it."""

    deleted: int
    floor: int


def install(where: ServerAddress, roles: Sequence[str]) -> Installed:
    """Apply the missing migrations, and let roles read the journal, in one transaction.

    Raises ConfigError and SourceError.
    """
    migrate.require_alembic()
    with JournalConnection(where) as connection, connection.transaction(_INSTALL, read_only=True):
        found = read_installation(connection)
        _require_installable(connection, found, roles)
    with _migration(where, _INSTALL) as schema:
        migrate.upgrade(schema)
        for statement in grants(roles):
            schema.exec_driver_sql(statement.replace("%", "%%"))
    return Installed(found.revision, REVISION)


def install_sql(start: str, roles: Sequence[str]) -> str:
    """Return the SQL of an installation from a revision on. It needs no connection. Raises ConfigError."""
    migrate.require_alembic()
    if start not in ("base", *migrate.revisions()):
        raise ConfigError(_INSTALL, on="--from", why="there is no such revision", hint=_known_revisions())
    lines = "-- There is nothing to do." if start == REVISION else migrate.upgrade_sql(start)
    return lines.rstrip("\n") + "".join(f"\n{statement};" for statement in grants(roles)) + "\n"


def grants(roles: Sequence[str]) -> list[str]:
    """Return the statements that let roles read the journal, and nothing else."""
    found = []
    for role in map(quoted, roles):
        found += [
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO {role}",
        ]
    return found


def remove(where: ServerAddress, observer: Observer) -> int:
    """Remove all triggers, then the schema. Returns the number of triggers. Raises ConfigError and SourceError."""
    migrate.require_alembic()
    with JournalConnection(where) as connection:
        wanted = _removal(connection)
        _require_removable(connection, wanted)
        dropped = sum(len(apply(connection, one, observer).statements) for one in wanted)
    with _migration(where, _REMOVE) as schema:
        migrate.downgrade(schema)
        for statement in _DROP_SCHEMA:
            schema.exec_driver_sql(statement)
    return dropped


def remove_sql(where: ServerAddress) -> str:
    """Return the SQL that removes the triggers that are there now, and the schema."""
    migrate.require_alembic()
    with JournalConnection(where) as connection:
        wanted = _removal(connection)
        with connection.transaction(_REMOVE, read_only=True):
            catalog = read_catalog(connection)
    changes = [
        drop_change(catalog, one.relation.oid, [one.relation.oid, *Family(catalog).partitions(one.relation.oid)])
        for one in wanted
    ]
    schema = migrate.downgrade_sql(REVISION).rstrip("\n").removesuffix("COMMIT;").rstrip("\n")
    ends = "".join(f"\n\n{statement};" for statement in _DROP_SCHEMA)
    return "".join(f"{change.script()}\n" for change in changes) + f"{schema}{ends}\n\nCOMMIT;\n"


def trim(where: ServerAddress, keep_seconds: int) -> Trimmed:
    """Delete the rows that no run of the last `keep_seconds` can need. Raises ConfigError and SourceError."""
    with JournalConnection(where) as connection:
        with connection.transaction(_TRIM, read_only=True):
            require_installed(read_installation(connection), _TRIM)
        with connection.transaction(_TRIM, f"{SCHEMA}.journal"):
            (deleted,) = connection.row(f"SELECT {SCHEMA}.trim_journal(make_interval(secs => %s))", (keep_seconds,))
            (floor,) = connection.row(f"SELECT floor::text::bigint FROM {SCHEMA}.journal_floor")
    return Trimmed(deleted, floor)


def _removal(connection: JournalConnection) -> list[WantedChange]:
    """Return the tables whose triggers to remove. Refuses a schema that holds something else."""
    with connection.transaction(_REMOVE, read_only=True):
        found = read_installation(connection)
        require_installed(found, _REMOVE)
        catalog = read_catalog(connection)
    if found.strangers:
        why = f"the schema holds something else: {found.strangers[0]}"
        raise ConfigError(_REMOVE, on=SCHEMA, why=why, hint="Move it to another schema, or drop it.")
    return [WantedChange("drop", catalog.relations[oid]) for oid in Family(catalog).watched()]


def _require_removable(connection: JournalConnection, wanted: Sequence[WantedChange]) -> None:
    """Raise SourceError if the role can't remove everything: half a removal would turn the journal off."""
    with connection.transaction(_REMOVE, read_only=True):
        owned = connection.row(_OWNS_SCHEMA) == (True,)
        catalog = read_catalog(connection)
    if not owned:
        hint = "Connect as its owner or a superuser, or let one of them run the output of --sql."
        raise SourceError(_REMOVE, on=f"schema {SCHEMA}", why="the role does not own it", hint=hint)
    for one in wanted:
        one.own_plan(catalog)


@contextmanager
def _migration(where: ServerAddress, what: str) -> Iterator[Connection]:
    """Run migrations in one transaction that waits only shortly for locks."""
    try:
        with migrate.engine_of(where).connect() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            connection.exec_driver_sql("SET LOCAL search_path = pg_catalog, pg_temp")
            yield connection
            connection.commit()
    except DBAPIError as error:
        assert isinstance(error.orig, psycopg.Error)
        raise failure(error.orig, what, where.label) from None


def _require_installable(connection: JournalConnection, found: Installation, roles: Sequence[str]) -> None:
    if found.in_recovery:
        raise SourceError(_INSTALL, why="the server is a standby", hint="Connect to the primary.")
    if found.revision is not None and found.revision not in migrate.revisions():
        why = f"a newer version of Floodmark installed revision {found.revision}"
        raise ConfigError(_INSTALL, why=why, hint="Use that version.")
    if found.revision is None and found.strangers:
        why = f"the schema exists, and holds something else: {found.strangers[0]}"
        raise ConfigError(_INSTALL, on=SCHEMA, why=why, hint="Rename that schema, or move what it holds.")
    if not found.schema and connection.row(_MAY_CREATE) != (True,):
        hint = "GRANT CREATE ON DATABASE … TO the role, or let a DBA run: floodmark journal install --sql"
        raise SourceError(_INSTALL, why="the role may not create a schema", hint=hint)
    if found.revision is None:
        _refuse_publications(connection)
    for role in roles:
        if connection.row(_ROLE, (role,)) != (True,):
            raise ConfigError(_INSTALL, on="--grant-to", why="there is no such role", hint="Create the role first.")


def _refuse_publications(connection: JournalConnection) -> None:
    """Refuse a database that publishes all tables: a subscriber stops at a change of a table that it does not have."""
    published = connection.rows(_PUBLISHED)
    if published:
        raise SourceError(
            _INSTALL,
            on=f"publication {published[0][0]}",
            why="it publishes all tables, and a subscriber without the journal's tables would stop",
            hint="Create the journal on the subscribers first, then run the output of --sql here.",
        )


def _known_revisions() -> str:
    return f"Use one of: base, {', '.join(migrate.revisions())}."
