"""TLS by default: a remote server must prove its identity, unless the user says otherwise.

libpq's own default, `prefer`, silently accepts an unencrypted connection and any certificate.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg.pq

from floodmark.source.postgres.address import libpq_default

_LOCAL = ("localhost", "127.", "::1", "/", "@")
_SYSTEM_FROM = 160000  # libpq's version


def by_default(arguments: dict[str, Any]) -> dict[str, str]:
    """Return the TLS arguments for a remote server if neither the URL nor libpq's environment sets any."""
    if _is_given(arguments) or is_local(arguments):
        return {}
    if arguments.get("sslrootcert") or libpq_default("sslrootcert") or _own_bundle().exists():
        return {"sslmode": "verify-full"}
    if psycopg.pq.version() < _SYSTEM_FROM:
        return {"sslmode": "verify-full"}
    return {"sslmode": "verify-full", "sslrootcert": "system"}


def _is_given(arguments: dict[str, Any]) -> bool:
    mode = arguments.get("sslmode") or os.environ.get("PGSSLMODE")
    return bool(mode) or libpq_default("sslmode") not in ("", "prefer")  # a service can have one


def is_local(arguments: dict[str, Any]) -> bool:
    """Return True if the host is local, by its name only: the address of a name can be forged as well."""
    hosts = str(
        arguments.get("host") or libpq_default("host") or arguments.get("hostaddr") or libpq_default("hostaddr")
    )
    return all(not host or host.startswith(_LOCAL) for host in hosts.split(","))


def _own_bundle() -> Path:
    return Path.home() / ".postgresql" / "root.crt"
