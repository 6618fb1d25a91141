"""A Glue database's tables: read, write over the version that was read, delete. Also translates Glue's errors.

`glue` knows the purpose of the tables and which of them may be changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from msgspec import Struct

from floodmark.errors import ConfigError, Conflict, FloodmarkError, StorageDenied, StorageError, StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient

_DENIED = ("AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException", "InvalidClientTokenId")
_RIGHTS = (
    "The role needs glue:GetDatabase, GetTables, CreateTable, UpdateTable and DeleteTable; if Lake Formation guards "
    "the catalog, also CREATE_TABLE on the database, and DESCRIBE, ALTER and DROP on its tables. Then load again."
)


class CatalogTable(Struct, frozen=True):
    """A table in the catalog: its parameters, its location, and the version to replace."""

    name: str
    parameters: dict[str, str]
    version: str | None
    location: str


class GlueCatalog:
    """One Glue database. Raises ConfigError, Conflict, StorageError."""

    def __init__(self, database: str) -> None:
        self._database = database
        with _translated("can't connect to Glue", database):
            self._glue: GlueClient = boto3.client("glue")

    def location(self) -> str | None:
        """Return the database's own location."""
        with _translated("can't read a Glue database", self._database):
            return self._glue.get_database(Name=self._database)["Database"].get("LocationUri") or None

    def tables(self) -> Iterator[CatalogTable]:
        with _translated("can't read the tables of a Glue database", self._database):
            for page in self._glue.get_paginator("get_tables").paginate(DatabaseName=self._database):
                for one in page["TableList"]:
                    location = one.get("StorageDescriptor", {}).get("Location", "")
                    yield CatalogTable(one["Name"], dict(one.get("Parameters", {})), one.get("VersionId"), location)

    def write(self, table: dict[str, Any], old: CatalogTable | None) -> None:
        """Create a table, or replace the version that was read. No other load uses the same location."""
        with _translated("can't write a Glue table", table["Name"]):
            try:
                self._put(table, old)
            except (ClientError, BotoCoreError) as error:
                # boto3 retries by itself. A refusal can then be the effect of its own first attempt.
                current = next((one for one in self.tables() if one.name == table["Name"]), None)
                if current is None and _code(error) == "AlreadyExistsException":
                    raise _hidden_table(f"{self._database}.{table['Name']}") from None
                if current is None or current.location != table["StorageDescriptor"]["Location"]:
                    raise

    def delete(self, name: str) -> None:
        """Delete a table if it exists."""
        gone = self._glue.exceptions.EntityNotFoundException
        with _translated("can't drop a Glue table", name), suppress(gone):
            self._glue.delete_table(DatabaseName=self._database, Name=name)

    def _put(self, table: dict[str, Any], old: CatalogTable | None) -> None:
        if old is None:
            self._glue.create_table(DatabaseName=self._database, TableInput=table)  # type: ignore[arg-type]
        else:
            version = {} if old.version is None else {"VersionId": old.version}
            self._glue.update_table(DatabaseName=self._database, TableInput=table, **version)  # type: ignore[arg-type]


@contextmanager
def _translated(what: str, on: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _from_answer(error, what, on) from None
    except BotoCoreError as error:
        hint = "Give boto3 credentials and a region. AWS_ENDPOINT_URL_GLUE is for a Glue other than Amazon's."
        kind = StorageUnavailable if isinstance(error, (ConnectionError, HTTPClientError)) else StorageError
        raise kind(what, on=on, why=type(error).__name__, hint=hint) from None


def _from_answer(error: ClientError, what: str, on: str) -> FloodmarkError:
    code = _code(error)
    if code == "EntityNotFoundException":
        hint = "Create the Glue database first; Floodmark creates only the tables in it."
        return ConfigError(what, on=on, why="the Glue database or table does not exist", hint=hint)
    if code in ("ConcurrentModificationException", "AlreadyExistsException"):
        hint = "Load again. What was loaded there is intact."
        return Conflict(what, on=on, why="another writer, such as another load, changed it meanwhile", hint=hint)
    if code in _DENIED:
        return StorageDenied(what, on=on, why=code, hint=_RIGHTS)
    return StorageError(what, on=on, why=f"Glue gave {code}")


def _code(error: Exception) -> str | None:
    """Return the error code in Glue's answer, or None without one."""
    return str(error.response.get("Error", {}).get("Code", "no code")) if isinstance(error, ClientError) else None


def _hidden_table(name: str) -> StorageDenied:
    return StorageDenied(
        "can't create a Glue table",
        on=name,
        why="Glue says that it exists, but does not list it for this role",
        hint="Rename or delete it, let the role DESCRIBE it in Lake Formation, or load into another Glue database.",
    )
