"""The address of a database: a source's URL → libpq's arguments.

A URL has the meaning that SQLAlchemy gives it. SQLAlchemy itself is asked only if a URL names hosts or ports among its
parameters, or a parameter twice: loading it takes as long as scanning a million rows, and every run would pay. All
other URLs are read here in the same grammar; a test compares the two.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

import psycopg
from msgspec import Struct
from psycopg import pq

from floodmark.config import Secret
from floodmark.config.urls import SOURCE_URL
from floodmark.errors import ConfigError

_ASK_SQLALCHEMY = frozenset({"host", "port"})
_HOST = re.compile(r"\[([^\[\]]+)\]|([^\[\]]*)")


class ServerAddress(Struct, frozen=True):
    """The address of a database. `arguments` are libpq's, and can hold a password; `label` never does."""

    arguments: dict[str, Any]
    label: str

    def __repr__(self) -> str:
        return f"Address({self.label})"


def address(url: Secret | None) -> ServerAddress:
    """Read an SQLAlchemy URL. Without one, leave everything to libpq's own environment (PG*)."""
    if url is None:
        return ServerAddress({}, label({}))
    arguments = _arguments(url.reveal().strip())
    return ServerAddress(arguments, label(arguments))


def label(arguments: dict[str, Any]) -> str:
    """Return where libpq will connect, completed from its own environment; no user, no secret."""

    def of(name: str) -> str:
        return str(arguments.get(name) or libpq_default(name))

    port = of("port")
    port = f":{port}" if port.isdecimal() and port != "5432" else ""
    return f"postgresql://{of('host') or of('hostaddr') or 'localhost'}{port}/{of('dbname') or of('user')}"


def libpq_default(name: str) -> str:
    """Return libpq's own value (PG*, a service) for a parameter that is not given, or an empty text if it has none."""
    try:
        found = pq.Conninfo.get_defaults()
    except (psycopg.Error, MemoryError):  # a missing service: connecting will report it
        return ""
    return next((o.val.decode() for o in found if o.keyword == name.encode() and o.val), "")


def _arguments(url: str) -> dict[str, Any]:
    match = SOURCE_URL.fullmatch(url)
    if match is None:
        raise _unreadable()
    pairs = parse_qsl(match["query"] or "")
    query = dict(pairs)
    if len(query) < len(pairs) or not _ASK_SQLALCHEMY.isdisjoint(query):
        return _as_sqlalchemy_has_it(url)
    given = {
        "host": _host(match["host"]),
        "dbname": unquote(match["database"] or ""),
        "user": unquote(match["user"] or ""),
        "password": unquote((match["secret"] or "").removeprefix(":")),
        "port": match["port"] or "",
    }
    return {**{name: value for name, value in given.items() if value}, **query}


def _host(text: str) -> str:
    """Return a host's name or address. An address with colons must be in brackets. A stray bracket is refused."""
    match = _HOST.fullmatch(text)
    if match is None:
        raise _unreadable()
    return match[1] or match[2] or ""


def _as_sqlalchemy_has_it(url: str) -> dict[str, Any]:
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg  # noqa: PLC0415 - by need, see above
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - by need
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - by need

    try:
        return dict(PGDialect_psycopg().create_connect_args(make_url(url))[1])  # type: ignore[no-untyped-call]
    except (ArgumentError, ValueError):
        raise _unreadable() from None


def _unreadable() -> ConfigError:
    return ConfigError("can't read the source URL", hint="Write postgresql://user@host:5432/database")
