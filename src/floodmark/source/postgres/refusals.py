"""The reasons why a connection fails: libpq's words → Floodmark's words, a hint, and if a retry can help.

While connecting there is no SQLSTATE, only a sentence of libpq or the server. None of it is ever shown, because it
repeats its input.
"""

from __future__ import annotations

import psycopg
from msgspec import Struct

from floodmark.errors import ConfigError, FloodmarkError, SourceError, SourceUnavailable

CONNECT_TIMEOUT = 15

_PASSWORD = "Set it in PGPASSWORD, FLOODMARK_SOURCE or ~/.pgpass. A server says the same if the role does not exist."
_RIGHTS = "GRANT CONNECT ON DATABASE … TO the role."
_TLS = (
    "For a remote host the default is PGSSLMODE=verify-full. In a network that you trust, "
    "set PGSSLMODE=require or disable."
)
_CERTIFICATE = (
    "PGSSLROOTCERT must name a file with the certificate of the CA that signed the server's (AWS RDS has its own "
    "bundle). Without it the machine's own CAs are used."
)
_HOST_NAME = "Connect by the host name in the server's certificate."
_WRONG_HOST = "Check the host's name in the source's URL or PGHOST."
_NOT_THERE = "Check host and port, and that the server runs. To wait for it, set source.wait_seconds."
_LATER = "This can pass: set source.wait_seconds to wait for it."
_FEWER = "Lower limits.connections, or raise the limit: ALTER ROLE … CONNECTION LIMIT, max_connections."
_PARAMETERS = "Check the parameters after the ? in the source's URL, and the PG… variables."


class ConnectRefusal(Struct, frozen=True):
    """One kind of refusal: the words that identify it, in lower case, and its description."""

    words: str
    why: str
    hint: str
    kind: type[FloodmarkError] = SourceError


def _transient(words: str, why: str, hint: str = _LATER) -> ConnectRefusal:
    return ConnectRefusal(words, why, hint, SourceUnavailable)


def _wrong_setting(words: str, why: str) -> ConnectRefusal:
    return ConnectRefusal(words, why, _PARAMETERS, ConfigError)


# The first entry whose words occur counts, so special entries come before general ones.
_REFUSALS = (
    ConnectRefusal("password authentication failed", "the password was refused", _PASSWORD),
    ConnectRefusal("no password supplied", "the server requires a password, and none was given", _PASSWORD),
    ConnectRefusal("authentication failed", "the server did not accept our identity", "Check user and pg_hba.conf."),
    ConnectRefusal(
        "pg_hba.conf",
        "the server's pg_hba.conf does not allow this client",
        "Add a line for this database, role, address and kind of encryption.",
    ),
    ConnectRefusal("is not permitted to log in", "the role may not log in", "ALTER ROLE … LOGIN."),
    ConnectRefusal("does not match host name", "the server's certificate is for another host name", _HOST_NAME),
    ConnectRefusal("root certificate file", "the file of trusted certificates can't be read", _CERTIFICATE),
    ConnectRefusal("certificate verify failed", "the server's certificate is not signed by a trusted CA", _CERTIFICATE),
    ConnectRefusal("certificate", "the TLS certificate was not accepted", _CERTIFICATE),
    ConnectRefusal("server does not support ssl", "the server does not offer TLS, and PGSSLMODE demands it", _TLS),
    ConnectRefusal("ssl error", "the TLS handshake failed", _TLS),
    ConnectRefusal(
        "startup parameter",
        "a pooler does not accept startup options",
        "Remove PGOPTIONS, and options= in the source's URL.",
    ),
    _wrong_setting("sslmode value", "PGSSLMODE or sslmode has a value that libpq does not know"),
    _wrong_setting("port number", "the port is not a number from 1 to 65535"),
    _wrong_setting("definition of service", "PGSERVICE names a service that does not exist"),
    _wrong_setting("service file", "the service file can't be read"),
    _wrong_setting("invalid connection option", "it has a parameter that libpq does not know"),
    _wrong_setting("invalid value for parameter", "a parameter has a value that the server does not accept"),
    _wrong_setting('value: "', "a parameter has a value that libpq does not accept"),
    _wrong_setting("bad value for", "a parameter has a value that libpq does not accept"),
    _wrong_setting("could not match", "the numbers of hosts and ports differ"),
    _wrong_setting("invalid integer value", "a parameter must be a number"),
    ConnectRefusal(
        "does not exist",
        "the database or the role does not exist",
        "Check the database's name and the user in the source's URL, or PGDATABASE and PGUSER.",
    ),
    ConnectRefusal("permission denied for database", "the role may not connect to this database", _RIGHTS),
    ConnectRefusal(
        "not currently accepting connections", "the database does not accept connections", "See datallowconn."
    ),
    _transient("failed to resolve host", "the host name can't be resolved", _WRONG_HOST),
    _transient("could not translate host name", "the host name can't be resolved", _WRONG_HOST),
    _transient("name or service not known", "the host name can't be resolved", _WRONG_HOST),
    _transient("connection refused", "no server listens there (connection refused)", _NOT_THERE),
    _transient("no such file or directory", "no server listens on that socket", _NOT_THERE),
    _transient("timeout expired", f"no answer within {CONNECT_TIMEOUT} s", _NOT_THERE),
    _transient("connection timeout", f"no answer within {CONNECT_TIMEOUT} s", _NOT_THERE),
    _transient("unreachable", "the network has no route to the host", _NOT_THERE),
    _transient("no route to host", "the network has no route to the host", _NOT_THERE),
    _transient("starting up", "the server is starting up"),
    _transient("shutting down", "the server is shutting down"),
    _transient("in recovery mode", "the server is recovering from a crash"),
    _transient("not yet accepting connections", "the server is not ready yet"),
    _transient("hot standby mode is disabled", "it is a standby that accepts no connections", "Set hot_standby = on."),
    _transient("too many clients", "the server's connection limit is reached", _FEWER),
    _transient("too many connections", "the connection limit of the role or database is reached", _FEWER),
    _transient("remaining connection slots", "the server's connection limit is reached", _FEWER),
    _transient("closed the connection unexpectedly", "the connection was closed before the server answered"),
    _transient("connection reset", "the connection was closed before the server answered"),
)


def connect_error(error: psycopg.Error, label: str) -> FloodmarkError:
    """Return the error for a failed connection. It is a ConfigError if a setting is at fault."""
    text = str(error).lower()
    for known in _REFUSALS:
        if known.words in text:
            return known.kind("can't connect to the source", on=label, why=known.why, hint=known.hint)
    why = f"{type(error).__name__}, with an unknown text that is not shown"
    hint = "Run psql with the same settings to see the server's own message."
    return SourceUnavailable("can't connect to the source", on=label, why=why, hint=hint)
