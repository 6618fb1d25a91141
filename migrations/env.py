"""The environment of the journal's migrations: one transaction, with the version table in the journal's own schema.

`floodmark journal` passes an open connection. Alembic's own command line has none: then Floodmark's rules for
connections apply, with FLOODMARK_SOURCE or libpq's variables.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from floodmark.config import Secret
from floodmark.journal.migrate import engine_of
from floodmark.source.postgres.address import address

SCHEMA = "floodmark"


def migrate() -> None:
    with context.begin_transaction():
        # The version table needs the schema before the first revision is applied.
        if context.config.attributes.get("upgrading", True):
            context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        context.run_migrations()


def migrate_with(connection: Connection) -> None:
    context.configure(connection=connection, version_table_schema=SCHEMA)
    migrate()


def migrate_as_text() -> None:
    context.configure(url="postgresql+psycopg://", version_table_schema=SCHEMA, literal_binds=True)
    migrate()


def migrate_by_environment() -> None:
    source = os.environ.get("FLOODMARK_SOURCE")
    with engine_of(address(None if source is None else Secret(source))).connect() as connection:
        migrate_with(connection)
        connection.commit()


if context.is_offline_mode():
    migrate_as_text()
elif "connection" in context.config.attributes:
    migrate_with(context.config.attributes["connection"])
else:
    migrate_by_environment()
