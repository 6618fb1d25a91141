"""The names of datasets, as OpenLineage's naming rules have them: tables of the source, and their place in the lake."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from floodmark.model import TableEntry, TableName
from floodmark.places import bucket_of
from floodmark.reader.schema import ITSELF
from floodmark.state.manifest import Manifest

_PORTS = {"mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}


class DatasetName(Struct, frozen=True):
    """A dataset's namespace and name. Both together are its identity."""

    namespace: str
    name: str


def source_names(label: str, dialect: str, database: str) -> Callable[[TableName], DatasetName]:
    """Return the function that names a table of the source. `label` is the source's own, which holds no password."""
    namespace = _source_namespace(label, dialect)
    if dialect in ("sqlite", "duckdb"):
        return lambda table: DatasetName(namespace, table.label)
    if dialect in ("mysql", "mariadb"):  # a schema is a database
        return lambda table: DatasetName(namespace, table.label)
    return lambda table: DatasetName(namespace, f"{database}.{table.label}")


def _source_namespace(label: str, dialect: str) -> str:
    if dialect == "postgresql":
        host, _, _ = label.removeprefix("postgresql://").rpartition("/")
        if host.startswith("/"):  # the folder of a socket, and perhaps a port
            host = f"localhost:{host.rpartition(':')[2]}" if ":" in host else "localhost"
        host = host.partition(",")[0]
        if host.count(":") > 1:  # an IPv6 address
            host = f"[{host}]"
        return f"postgres://{host}" if re.search(r":\d+$", host) else f"postgres://{host}:5432"
    if dialect in ("sqlite", "duckdb"):
        return label
    parts = urlsplit(label)
    scheme = "mysql" if dialect == "mariadb" else dialect
    port = parts.port or _PORTS.get(dialect)
    return f"{scheme}://{parts.hostname or 'localhost'}{'' if port is None else f':{port}'}"


def landed_name(manifest: Manifest, entry: TableEntry) -> DatasetName:
    """Return the place of a table's objects: the part of their keys that does not change from run to run."""
    database, table = ITSELF.names(manifest, entry)
    folder = f"data/database_name={database}/table_name={table}"
    bucket = bucket_of(manifest.destination)
    if bucket is None:
        return DatasetName("file", str(Path(manifest.destination).absolute() / folder))
    prefix = manifest.destination.removeprefix(f"s3://{bucket}").strip("/")
    return DatasetName(f"s3://{bucket}", f"{prefix}/{folder}" if prefix else folder)
