"""The journal's migrations: found where Floodmark is installed, and applied or written as SQL by Alembic.

SQLAlchemy and Alembic open no connection by their own rules: `engine_of` hands them Floodmark's, with its TLS, its
environment and its errors.
"""

from __future__ import annotations

import io
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from floodmark.errors import ConfigError
from floodmark.source.postgres.address import ServerAddress
from floodmark.source.postgres.connect import connect
from floodmark.wording import install_hint

if TYPE_CHECKING:
    from alembic.config import Config  # optional extra

_PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """Return the folder of the migrations: in the installed package, or at the top of a checkout."""
    installed = _PACKAGE / "migrations"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "migrations"


def engine_of(where: ServerAddress) -> Engine:
    """Return an SQLAlchemy engine whose connections are Floodmark's own."""
    return create_engine("postgresql+psycopg://", creator=partial(_connection, where), poolclass=NullPool)


def _connection(where: ServerAddress) -> psycopg.Connection[Any]:
    connection = connect(where)
    connection.autocommit = False
    return connection


def require_alembic() -> None:
    """Raise a ConfigError that names the extra if Alembic is not installed."""
    if find_spec("alembic") is None:
        raise ConfigError(
            "can't read the journal's migrations",
            why="Alembic is not installed",
            hint=install_hint("journal"),
        )


def revisions() -> list[str]:
    """Return the known revisions, the oldest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - optional extra

    return [one.revision for one in ScriptDirectory(str(folder())).walk_revisions()][::-1]


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Apply the missing revisions within the connection's transaction. The caller commits."""
    from alembic import command  # noqa: PLC0415 - optional extra

    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Undo the revisions above one within the connection's transaction. The caller commits."""
    from alembic import command  # noqa: PLC0415 - optional extra

    command.downgrade(_config(connection, upgrading=False), revision)


def upgrade_sql(start: str = "base", revision: str = "head") -> str:
    """Return the SQL of an upgrade from a revision, in one transaction."""
    from alembic import command  # noqa: PLC0415 - optional extra

    config = _config()
    command.upgrade(config, f"{start}:{revision}", sql=True)
    return _text_of(config)


def downgrade_sql(start: str, revision: str = "base") -> str:
    """Return the SQL of a downgrade from a revision, in one transaction."""
    from alembic import command  # noqa: PLC0415 - optional extra

    config = _config(upgrading=False)
    command.downgrade(config, f"{start}:{revision}", sql=True)
    return _text_of(config)


def _config(connection: Connection | None = None, *, upgrading: bool = True) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - optional extra

    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["upgrading"] = upgrading
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _text_of(config: Config) -> str:
    assert isinstance(config.output_buffer, io.StringIO)
    return config.output_buffer.getvalue()
