"""The connection to MariaDB or MySQL: its URL, its driver, TLS, and the settings that every session pins.

PyMySQL is the default driver. All values come as texts or bytes, exactly as the mariadb client prints them, except for
integers: `columns` turns them into JSON.
"""

from __future__ import annotations

import os
import ssl
from importlib import import_module
from ipaddress import ip_address
from typing import Any

from sqlalchemy import URL, Connection, Engine

from floodmark.config import Limits
from floodmark.errors import ConfigError
from floodmark.source.sql.engine import made_engine
from floodmark.wording import install_hint

CONNECT_TIMEOUT = 15
_DRIVERS = ("pymysql", "mysqldb")
_WHAT = "can't use the source URL"
_PARAMETERS = frozenset({"unix_socket", "connect_timeout"})
_TLS_PARAMETERS = frozenset({"ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert", "ssl_verify_identity", "ssl_disabled"})
_IGNORED = frozenset({"charset"})
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

# Each of these shapes values, plans, locks or limits. `sql_mode` is pinned while connecting.
_PINNED = {
    "time_zone": "'+00:00'",
    "transaction_isolation": "'REPEATABLE-READ'",
    "div_precision_increment": "4",
    "lc_time_names": "'en_US'",
    "default_week_format": "0",
    "sql_auto_is_null": "0",
    "sql_select_limit": "DEFAULT",
    "sql_big_selects": "1",
    "sql_buffer_result": "0",
    "group_concat_max_len": "1048576",
    "max_sort_length": "8192",
    "timestamp": "DEFAULT",
    "net_write_timeout": "3600",
    "wait_timeout": "604800",
}
_MARIADB = {
    "tx_isolation": "'REPEATABLE-READ'",
    "idle_transaction_timeout": "0",
    "idle_readonly_transaction_timeout": "0",
    "system_versioning_asof": "DEFAULT",
}


def engine_of(url: URL, limits: Limits) -> Engine:
    """Return an engine for one of the known drivers. Raises ConfigError for an unknown driver or parameter."""
    url, query = _without_parameters(_with_driver(url))
    if url.password is None and (secret := os.environ.get("MYSQL_PWD")):
        url = url.set(password=secret)
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "sql_mode": "",
        "autocommit": True,  # a statement outside a snapshot must not keep its locks
        "connect_timeout": _number(query.get("connect_timeout"), CONNECT_TIMEOUT),
        "read_timeout": limits.statement_timeout + 60,
        **_driver_arguments(url),
    }
    if "unix_socket" in query:
        arguments["unix_socket"] = query["unix_socket"]
    return made_engine(url, connect_args={**arguments, **_tls_arguments(url, query)})


def is_local(url: URL, query: dict[str, str]) -> bool:
    """Return True if the host is local, by its name only: the address of a name can be forged as well."""
    if "unix_socket" in query or not url.host or url.host.lower() == "localhost":
        return True
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return False


def pin_session(connection: Connection, limits: Limits, maria: bool) -> None:
    """Set what shapes values, plans, locks and limits, for this session only."""
    settings = {**_PINNED, "lock_wait_timeout": str(max(1, limits.lock_timeout))}
    if maria:
        del settings["transaction_isolation"]
        settings |= {**_MARIADB, "max_statement_time": str(limits.statement_timeout)}
    else:
        settings["max_execution_time"] = str(limits.statement_timeout * 1000)
    pairs = ", ".join(f"SESSION {name} = {value}" for name, value in settings.items())
    connection.exec_driver_sql(f"SET {pairs}")


def _with_driver(url: URL) -> URL:
    _, _, driver = url.drivername.partition("+")
    if driver not in ("", *_DRIVERS):
        hint = "Write mysql:// or mariadb://, which mean PyMySQL, or mysql+mysqldb:// for mysqlclient."
        raise ConfigError(_WHAT, on=url.drivername, why="this driver is not supported", hint=hint)
    return url.set(drivername=f"mysql+{driver or _DRIVERS[0]}")


def _without_parameters(url: URL) -> tuple[URL, dict[str, str]]:
    """Take the parameters out of the URL. Raises ConfigError for an unknown one, with its name and not its value."""
    known = _PARAMETERS | _TLS_PARAMETERS | _IGNORED
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    unknown = sorted(set(query) - known)
    if unknown:
        why = f"it has a parameter that Floodmark does not know: {unknown[0]}"
        raise ConfigError(_WHAT, why=why, hint=f"It knows {', '.join(sorted(_PARAMETERS | _TLS_PARAMETERS))}.")
    return url.set(query={}), query


def _tls_arguments(url: URL, query: dict[str, str]) -> dict[str, Any]:
    """Return the driver's TLS arguments. A remote server must prove its identity, unless the URL says otherwise."""
    unasked = is_local(url, query) and not _TLS_PARAMETERS & set(query)
    if unasked or _boolean(query, "ssl_disabled", False):
        return {"ssl_disabled": True} if _is_pymysql(url) else {"ssl_mode": "DISABLED"}
    identity = _boolean(query, "ssl_verify_identity", True)
    certificate = _boolean(query, "ssl_verify_cert", True)
    if not _is_pymysql(url):
        mode = "VERIFY_IDENTITY" if identity and certificate else "VERIFY_CA" if certificate else "REQUIRED"
        files = {"ca": query.get("ssl_ca"), "cert": query.get("ssl_cert"), "key": query.get("ssl_key")}
        return {"ssl_mode": mode, "ssl": {name: path for name, path in files.items() if path}}
    return {"ssl": _tls_context(query, certificate, identity)}


def _tls_context(query: dict[str, str], certificate: bool, identity: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=query.get("ssl_ca"))
        context.check_hostname = certificate and identity
        context.verify_mode = ssl.CERT_REQUIRED if certificate else ssl.CERT_NONE
        if "ssl_cert" in query:
            context.load_cert_chain(query["ssl_cert"], query.get("ssl_key"))
    except (OSError, ValueError):
        hint = "ssl_ca, ssl_cert and ssl_key must name PEM files that this user can read."
        raise ConfigError(_WHAT, why="a file of its TLS parameters can't be read", hint=hint) from None
    return context


def _is_pymysql(url: URL) -> bool:
    return url.drivername.endswith("+pymysql")


def _driver_arguments(url: URL) -> dict[str, Any]:
    """Return the cursor's class and the conversions of values. Raises ConfigError if the driver is missing.

    Integers become numbers, and all other values stay what they are. The cursor keeps no rows, so that a table of any
    size needs little memory.
    """
    package, name = ("pymysql", "PyMySQL") if _is_pymysql(url) else ("MySQLdb", "mysqlclient")
    try:
        kinds = import_module(f"{package}.constants.FIELD_TYPE")
        conversions = import_module(f"{package}.converters").conversions
    except ModuleNotFoundError:
        hint = install_hint("mysql") if name == "PyMySQL" else "Install mysqlclient, or write mysql:// for PyMySQL."
        raise ConfigError(_WHAT, on=url.drivername, why=f"the driver {name} is not installed", hint=hint) from None
    encoders = {kind: encoder for kind, encoder in conversions.items() if not isinstance(kind, int)}
    integers = {getattr(kinds, kind): int for kind in ("TINY", "SHORT", "LONG", "LONGLONG", "INT24", "YEAR")}
    return {"conv": encoders | integers, "cursorclass": _cursor_class(url)}


def _cursor_class(url: URL) -> type[Any]:
    where = (
        ("floodmark.source.mysql.cursor", "StreamingCursor") if _is_pymysql(url) else ("MySQLdb.cursors", "SSCursor")
    )
    found: type[Any] = getattr(import_module(where[0]), where[1])
    return found


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**6):
        raise ConfigError(_WHAT, why="connect_timeout must be a number of seconds")
    return int(text)


def _boolean(query: dict[str, str], name: str, default: bool) -> bool:
    if name not in query:
        return default
    found = _BOOLEANS.get(query[name].lower())
    if found is None:
        raise ConfigError(_WHAT, why=f"{name} must be true or false")
    return found
