"""URLs of sources and places, read with care: no error repeats a URL, whatever is wrong with it.

A source's URL has SQLAlchemy's grammar, and a test compares the two, so that no password can escape the check.
`make_url` itself is not called here. A run from PostgreSQL must not load SQLAlchemy: that takes as long as scanning a
million rows.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import parse_qsl

from msgspec import Struct

from floodmark.errors import ConfigError
from floodmark.places import file_path, place_problem

POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
SQLITE = frozenset({"sqlite"})
_EXAMPLE = "Write postgresql://user@host:5432/database or sqlite:///file.db."
_ESCAPE = "Percent-encode what is special in a part: @ is %40, / is %2F, : is %3A, ? is %3F."

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
    if match["scheme"] not in POSTGRESQL | SQLITE:
        _refuse_scheme(match["scheme"], origin)
    if match["scheme"] in SQLITE:
        return _sqlite(match, origin)
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
        has_password=bool(match["secret"]) or any("password" in name.lower() for name in query),
    )


def _sqlite(match: re.Match[str], origin: str) -> SourceUrl:
    if match["user"] is not None or match["host"] or match["port"]:
        _refuse(
            origin,
            "SQLite has no host",
            "Write three slashes before a path: sqlite:///file.db, sqlite:////data/file.db.",
        )
    if match["database"] in (None, "", ":memory:"):
        _refuse(origin, "it names no file", "Write sqlite:///file.db.")
    return _parts(match)


def _refuse_scheme(scheme: str, origin: str) -> NoReturn:
    if scheme.startswith(("postgres", "sqlite")):
        hint = "Leave the driver out: postgresql:// means psycopg 3, sqlite:// Python's own."
    else:
        hint = _EXAMPLE
    _refuse(origin, f"{scheme} is not supported yet", hint)


def _refuse(origin: str, why: str, hint: str) -> NoReturn:
    raise ConfigError("can't use this configuration", on=origin, why=why, hint=hint)
