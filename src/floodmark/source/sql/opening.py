"""The dialect of a URL: a module that knows the database better, or else SQLAlchemy."""

from __future__ import annotations

from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.engine import read_url, require_dialect
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.snapshot import SqlSource


def open_sql_source(options: SqlOptions) -> SqlSource:
    """Return the source that the URL names. Raises ConfigError for an unknown dialect or a missing driver."""
    return SqlSource(dialect_for(options))


def dialect_for(options: SqlOptions) -> Dialect:
    """Return the dialect of the URL. Each module is loaded by need, because some load a driver."""
    url = read_url(options.url.reveal())
    backend = url.get_backend_name()
    if backend == "sqlite":
        from floodmark.source.sql.sqlite import SQLite  # noqa: PLC0415 - by need, as each dialect is

        return SQLite(url, options)
    if backend in ("mysql", "mariadb"):
        from floodmark.source.mysql.dialect import MySQL  # noqa: PLC0415 - by need, as each dialect is

        return MySQL(url, options)
    require_dialect(url)
    if backend == "duckdb":
        from floodmark.source.sql.duckdb import DuckDB  # noqa: PLC0415 - by need, as each dialect is

        return DuckDB(url, options)
    if backend == "mssql":
        from floodmark.source.sql.mssql import SQLServer  # noqa: PLC0415 - by need, as each dialect is

        return SQLServer(url, options)
    if backend == "oracle":
        from floodmark.source.sql.oracle import Oracle  # noqa: PLC0415 - by need, as each dialect is

        return Oracle(url, options)
    return Dialect(url, options)
