"""The server's error numbers → Floodmark's words, a hint, and a kind of error.

The text of an error is never shown: it can quote a value. Its number can't. Numbers below 2000 and above 3000 are the
server's, the others are the client's.
"""

from __future__ import annotations

import socket
import ssl

from msgspec import Struct
from sqlalchemy.exc import DBAPIError

from floodmark.errors import SnapshotLost, SourceError, SourceUnavailable, TableError, TableLocked
from floodmark.model import TableName

_PASSWORD = (
    "Set it in FLOODMARK_SOURCE, or in MYSQL_PWD. A server says the same if the user does not exist, or must use TLS: "
    "then add ?ssl_ca=… to the source's URL."
)
_NOT_THERE = "Check host and port, and that the server runs. To wait for it, set source.wait_seconds."
_WRONG_HOST = "Check the host's name in the source's URL."
_LATER = "This can pass: set source.wait_seconds to wait for it."
_FEWER = "A run needs two connections at least. Lower limits.connections, or raise max_connections or the user's limit."
_GRANT = "Check the database's name. To let the user read it: GRANT SELECT, SHOW VIEW ON database.* TO 'user'@'%'."
_CERTIFICATE = (
    "A remote server must show a certificate of a CA that this machine trusts, for its host name. ssl_ca in the URL "
    "names a file with another CA (AWS RDS has its own bundle)."
)
_NO_TLS = "Enable TLS on the server. In a network that you trust, add ?ssl_disabled=true to the URL."
_PLUGIN = "Give the user another authentication plugin, or install the extra mysql with all that it needs."

# A connection that broke, or that the server or another session ended.
LOST = frozenset({1053, 1077, 1078, 1079, 1080, 1927, 2006, 2013, 2014, 2045, 2055, 4031})
_CHANGED = frozenset({1051, 1054, 1109, 1146, 1176, 1412, 1431, 1471, 1932})
_DENIED = frozenset({1044, 1142, 1143, 1227, 1345, 1370})
_STATEMENT_TIMEOUT = frozenset({1969, 3024})
_INTERRUPTED = frozenset({1213, 1317})


class ConnectRefusal(Struct, frozen=True):
    """One kind of refusal while connecting: its description, what to do, and the error's kind."""

    why: str
    hint: str
    kind: type[SourceError] = SourceError


_REFUSALS = {
    1045: ConnectRefusal("the user or the password was refused", _PASSWORD),
    1698: ConnectRefusal("the user or the password was refused", _PASSWORD),
    1044: ConnectRefusal("the user may not read this database, or it does not exist", _GRANT),
    1049: ConnectRefusal("the database does not exist", "Check its name at the end of the source's URL."),
    1040: ConnectRefusal("the server's connection limit is reached", _FEWER, SourceUnavailable),
    1203: ConnectRefusal("the user's connection limit is reached", _FEWER, SourceUnavailable),
    1226: ConnectRefusal("a limit of the user is reached", _FEWER, SourceUnavailable),
    1129: ConnectRefusal("the server blocks this host after many errors", "Run mariadb-admin flush-hosts on it."),
    1130: ConnectRefusal("the server does not accept this host", "CREATE USER … for this host, or for '%'."),
    1251: ConnectRefusal("the driver lacks the user's authentication plugin", _PLUGIN),
    1275: ConnectRefusal("the user's password has the format of MySQL 4, which no driver sends", _PLUGIN),
    2059: ConnectRefusal("the driver lacks the user's authentication plugin", _PLUGIN),
    1820: ConnectRefusal("the user's password has expired", "Set a new one: ALTER USER … IDENTIFIED BY …."),
    1862: ConnectRefusal("the user's password has expired", "Set a new one: ALTER USER … IDENTIFIED BY …."),
    4151: ConnectRefusal("the account is locked", "ALTER USER … ACCOUNT UNLOCK."),
    3118: ConnectRefusal("the account is locked", "ALTER USER … ACCOUNT UNLOCK."),
    3159: ConnectRefusal(
        "the server accepts only TLS here",
        "Add ?ssl_ca=… to the source's URL, or ?ssl_verify_cert=false in a tunnel that you trust.",
    ),
    2026: ConnectRefusal("the server does not offer TLS, or its handshake failed", _NO_TLS),
}
_NO_HOST = ConnectRefusal("the host name can't be resolved", _WRONG_HOST, SourceUnavailable)
_NO_SERVER = ConnectRefusal("no server answers there", _NOT_THERE, SourceUnavailable)
_UNTRUSTED = ConnectRefusal("the server's TLS certificate was not accepted", _CERTIFICATE)
_HANDSHAKE = ConnectRefusal("the TLS handshake failed", _NO_TLS)


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error, out of SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def number_of(error: BaseException) -> int | None:
    """Return an error's number, None if it has none."""
    arguments = driver_error(error).args
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def code_of(error: BaseException) -> str:
    """Return an error's number in words, or the name of its class."""
    number = number_of(error)
    return f"error {number}" if number else type(driver_error(error)).__name__


def is_lost(error: BaseException) -> bool:
    """Return True if the connection is gone."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return number_of(error) in LOST or type(driver_error(error)).__name__ == "InterfaceError"


def refused_connection(error: BaseException, label: str) -> SourceError:
    """Return the error for a failed connection, or for a snapshot that could not be taken."""
    found = _refusal(error)
    what = "can't connect to the source"
    if found is None:
        kind = SourceUnavailable if is_lost(error) else SourceError
        return kind("can't take a snapshot of the source", on=label, why=code_of(error))
    return found.kind(what, on=label, why=f"{found.why} ({code_of(error)})", hint=found.hint)


def _refusal(error: BaseException) -> ConnectRefusal | None:
    cause = getattr(driver_error(error), "original_exception", None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _UNTRUSTED
    if isinstance(cause, ssl.SSLError):
        return _HANDSHAKE
    if isinstance(cause, socket.gaierror):
        return _NO_HOST
    number = number_of(error)
    if number in (2002, 2003, 2005):
        return _NO_HOST if number == 2005 else _NO_SERVER
    return None if number is None else _REFUSALS.get(number)


def table_failure(error: BaseException, what: str, table: TableName, filter_hint: str | None) -> SourceError:
    """Return Floodmark's error for an error of one table while the connection lives."""
    number, on = number_of(error), table.label
    if number in _CHANGED:
        return SnapshotLost(what, on=on, why=f"its definition changed after the snapshot ({code_of(error)})")
    if number in _DENIED:
        hint = f"GRANT SELECT ON {on} to the user, or exclude the table."
        return TableError(what, code="denied", on=on, why=f"permission denied ({code_of(error)})", hint=hint)
    if number == 1205:
        why = f"another session, such as a migration, kept it locked ({code_of(error)})"
        return TableLocked(what, on=on, why=why, hint="Rerun the table later, or raise limits.lock_timeout.")
    if number in _STATEMENT_TIMEOUT:
        why = f"a statement took longer than limits.statement_timeout ({code_of(error)})"
        return TableError(what, on=on, why=why, hint="Raise limits.statement_timeout.")
    if number in _INTERRUPTED:
        return SourceUnavailable(what, on=on, why=f"another session interrupted the statement ({code_of(error)})")
    return TableError(what, on=on, why=f"the server refused ({code_of(error)})", hint=filter_hint)
