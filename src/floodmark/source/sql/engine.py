"""SQLAlchemy's part of opening a source: the URL, the driver, the engine, and words for them that hold no secret."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from floodmark.errors import ConfigError
from floodmark.wording import install_hint

_WHAT = "can't use the source URL"
# The extra of this package that brings a database's driver, or its SQLAlchemy dialect.
_EXTRAS = {"mysql": "mysql", "mariadb": "mysql", "duckdb": "duckdb", "mssql": "mssql", "oracle": "oracle"}


def read_url(text: str) -> URL:
    """Parse a URL as SQLAlchemy does. Raises ConfigError, which never holds it."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        hint = "Write dialect://user@host:port/database, or sqlite:///file.db."
        raise ConfigError(_WHAT, why="it is not a valid URL", hint=hint) from None
    if url.drivername.count("+") > 1:
        hint = "Write dialect+driver://user@host:port/database."
        raise ConfigError(_WHAT, on=url.drivername, why="it names two drivers", hint=hint)
    return url


def require_dialect(url: URL) -> None:
    """Raise ConfigError if SQLAlchemy has no dialect of the URL's name."""
    try:
        url.get_dialect()
    except NoSuchModuleError:
        raise ConfigError(
            _WHAT, on=url.drivername, why="no SQLAlchemy dialect of this name is installed", hint=_dialect_hint(url)
        ) from None


def made_engine(url: URL, **options: Any) -> Engine:
    """Return an engine without a pool. Raises ConfigError for an unknown dialect, and for a missing driver."""
    require_dialect(url)
    try:
        return create_engine(url, poolclass=NullPool, hide_parameters=True, **options)
    except ImportError as error:
        name = error.name or "of this dialect"
        raise ConfigError(
            _WHAT, on=url.drivername, why=f"the driver {name} is not installed", hint=_driver_hint(url, error.name)
        ) from None
    except (ArgumentError, TypeError, ValueError):
        raise ConfigError(_WHAT, on=url.drivername, why="the dialect does not accept its parameters") from None


def _dialect_hint(url: URL) -> str:
    extra = _EXTRAS.get(url.get_backend_name())
    if extra is not None:
        driver = ", or leave the driver out of the URL" if "+" in url.drivername else ""
        return f"{install_hint(extra)}{driver}"
    return "Check its spelling, or install the package that brings the dialect."


def _driver_hint(url: URL, module: str | None) -> str:
    extra = _EXTRAS.get(url.get_backend_name())
    if extra is not None:
        return f"{install_hint(extra)}, or the package of the driver that the URL names."
    return f"Install the package that brings the Python module {module}." if module else "Install its driver."


def label_of(url: URL) -> str:
    """Return a URL without its password and its parameters."""
    shown = URL.create(url.drivername, url.username, None, url.host, url.port, url.database)
    return shown.render_as_string(hide_password=True)


def place_digest(url: URL) -> str:
    """Return a digest of the place of a database: its host, its port and its name."""
    place = [url.get_backend_name(), (url.host or "").lower(), url.port, url.database]
    return hashlib.sha256(msgspec.json.encode(place)).hexdigest()[:32]


def file_of(url: URL, hint: str) -> Path:
    """Return the absolute path of the file that a URL names. Raises ConfigError, which never holds the URL."""
    if url.host or url.username or url.query:
        raise ConfigError(_WHAT, why="it contains more than the path of a file", hint=hint)
    if not url.database or url.database == ":memory:" or "\x00" in url.database:
        raise ConfigError(_WHAT, why="it names no file", hint=hint)
    return Path(os.path.abspath(url.database))  # noqa: PTH100 - resolve() would follow links


def file_digest(path: Path) -> str:
    """Return a digest of a file's path: the identity of the database in it."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def version_text(connection: Connection) -> str:
    """Return the server's version with dots, as far as SQLAlchemy knows it."""
    return ".".join(map(str, getattr(connection.dialect, "server_version_info", None) or ()))


def error_name(error: Exception) -> str:
    """Return a driver's name for an error: its SQLSTATE if it has one, else its class."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str) and state.isalnum() and len(state) == 5:
        return f"SQLSTATE {state}"
    return type(cause).__name__
