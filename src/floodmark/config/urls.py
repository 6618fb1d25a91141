"""URLs of sources and places, read with care: no error repeats a URL, whatever is wrong with it.

A source's URL has SQLAlchemy's grammar. `make_url` reads it, except for PostgreSQL and files: their URLs are read by an
expression that a test compares with `make_url`, so that no password can escape the check. A run from PostgreSQL must
not load SQLAlchemy: that takes as long as scanning a million rows.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import parse_qsl

from msgspec import Struct

from floodmark.errors import ConfigError
from floodmark.places import file_path, place_problem

POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
# Databases in a file: their URLs have no host.
FILES = {"sqlite": "SQLite", "duckdb": "DuckDB"}
# The variables that can hold a password, by the scheme without its driver.
_PASSWORDS = {"postgresql": "PGPASSWORD", "postgres": "PGPASSWORD", "mysql": "MYSQL_PWD", "mariadb": "MYSQL_PWD"}
_EXAMPLE = "Write postgresql://user@host:5432/database, mysql://user@host/database, or sqlite:///file.db."
_ESCAPE = "Percent-encode what is special in a part: @ is %40, / is %2F, : is %3A, ? is %3F."

# Parts of the names of parameters that can hold a secret.
_SECRET_PARAMETERS = ("password", "passwd", "pwd", "secret", "token", "credential", "private_key", "odbc_connect")

# A user holds no colon and no slash. A password ends at the first @, and can hold anything before it.
_SCHEME = r"(?P<scheme>[\w+]+)://"
_USER = r"(?:(?P<user>[^:/]*)(?P<secret>:[^@]*)?@)?"
_HOST = r"(?P<host>\[[^/?]+\]|[^/:?]*)(?::(?P<port>[^/?]*))?"
_REST = r"(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
SOURCE_URL = re.compile(f"{_SCHEME}{_USER}{_HOST}{_REST}", re.DOTALL)


class SourceUrl(Struct, frozen=True):
    """The parts of a source's URL that hold no secret, and a flag for a password."""

    scheme: str
    user: str
    host: str
    port: str
    database: str
    has_password: bool

    @property
    def label(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{self.host}{port}/{self.database}"


def read_source(url: str, origin: str) -> SourceUrl:
    """Check a source's URL. `origin` says where it was given. Raises ConfigError, which never holds the URL."""
    match = SOURCE_URL.fullmatch(url.strip())
    if match is None:
        _refuse(origin, "not a database URL", _EXAMPLE)
    backend = match["scheme"].partition("+")[0]
    if backend in FILES:
        return _file(match, origin, FILES[backend])
    if match["scheme"] not in POSTGRESQL:
        return _by_sqlalchemy(url.strip(), match["scheme"], origin)
    if "@" in match["host"] + (match["port"] or "") + (match["database"] or ""):
        _refuse(origin, "there is an @ too many, or a / in the user's name", _ESCAPE)
    if not (match["port"] or "0").isascii() or not (match["port"] or "0").isdigit():
        _refuse(origin, "its port is not a number", _ESCAPE)
    return _parts(match)


def safe_label(url: str) -> str:
    """Return driver, user, host, port and database of a source's URL, without password and parameters."""
    try:
        return read_source(url, "").label
    except ConfigError:
        return "(a URL that can't be read)"


def check_place(url: str, origin: str) -> str:
    """Return a destination or state: `s3://bucket/prefix`, or a local path, also for file://. Raises ConfigError."""
    problem = place_problem(url)
    if problem is not None:
        _refuse(origin, problem.why, problem.hint)
    return file_path(url) or url


def _parts(match: re.Match[str]) -> SourceUrl:
    query = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    return SourceUrl(
        scheme=match["scheme"],
        user=match["user"] or "",
        host=match["host"] or query.get("host", ""),
        port=match["port"] or "",
        database=match["database"] or "",
        has_password=bool(match["secret"]) or any(map(_can_hold_password, query)),
    )


def _can_hold_password(parameter: str) -> bool:
    return any(name in parameter.lower() for name in _SECRET_PARAMETERS)


def _file(match: re.Match[str], origin: str, product: str) -> SourceUrl:
    scheme = match["scheme"]
    if scheme not in FILES:
        _refuse(
            origin, f"{scheme} is not supported yet", f"Leave the driver out: {scheme.partition('+')[0]}:///file.db."
        )
    if match["user"] is not None or match["host"] or match["port"]:
        _refuse(
            origin,
            f"{product} has no host",
            f"Write three slashes before a path: {scheme}:///file.db, {scheme}:////data/file.db.",
        )
    if match["database"] in (None, "", ":memory:"):
        _refuse(origin, "it names no file", f"Write {scheme}:///file.db.")
    return _parts(match)


def password_variable(url: str) -> str | None:
    """Return the variable that can hold the password for this kind of database."""
    return _PASSWORDS.get(url.partition(":")[0].partition("+")[0])


def _by_sqlalchemy(url: str, scheme: str, origin: str) -> SourceUrl:
    """Read the URL of any other database. Whether there is such a dialect shows when the source is opened."""
    if scheme.startswith("postgres"):
        hint = "Leave the driver out: postgresql:// means psycopg 3."
        _refuse(origin, f"{scheme} is not supported yet", hint)
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - by need: SQLAlchemy takes 0.2 s to load
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - by need, as above

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        _refuse(origin, "not a database URL", _EXAMPLE)
    if "@" in f"{parsed.host or ''}{parsed.database or ''}":
        _refuse(origin, "there is an @ too many, or a / in the user's name", _ESCAPE)
    return SourceUrl(
        scheme=parsed.drivername,
        user=parsed.username or "",
        host=parsed.host or "",
        port=str(parsed.port or ""),
        database=parsed.database or "",
        has_password=bool(parsed.password) or any(map(_can_hold_password, parsed.query)),
    )


def _refuse(origin: str, why: str, hint: str) -> NoReturn:
    raise ConfigError("can't use this configuration", on=origin, why=why, hint=hint)
