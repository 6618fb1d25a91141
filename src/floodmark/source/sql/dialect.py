"""The seam between the one SQL source and each database: a `Dialect` holds what a database does in its own way.

Every method has a default that works by SQLAlchemy's Inspector and Core. A dialect overrides what its database does
better. Its obligations:

- `open_snapshot` returns connections that all show the same moment until they are closed, or one connection.
- No method writes to the database, and none holds a lock that blocks writers for longer than a task.
- `facts` puts everything that shapes a table's lines into `definition`, so that a change of it changes the fingerprint.
- `check_task` raises SnapshotLost unless the relations that the task read are those that the snapshot means.
- Equal values of `digest` mean equal values of everything that `expression` selects, in the same order.
- `refusal` and `failure` translate a driver's error. Neither its text nor the URL goes into the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from msgspec import Struct
from sqlalchemy import (
    URL,
    Connection,
    CursorResult,
    Engine,
    FromClause,
    Select,
    Text,
    TextClause,
    bindparam,
    cast,
    column,
    inspect,
    literal_column,
    table,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.sql import ColumnElement, quoted_name
from sqlalchemy.types import NullType

from floodmark.errors import SourceError, SourceUnavailable, TableError
from floodmark.model import SourceIdentity, TableName
from floodmark.source.base import Diagnosis, Drawback
from floodmark.source.sql.engine import error_name, label_of, made_engine, place_digest, version_text
from floodmark.source.sql.facts import KeyColumn, Maker, SqlColumn, SqlOptions, SqlRelation, SqlTable, TableFacts
from floodmark.source.sql.reflection import is_interval, is_json, reflected_facts, reflected_relations
from floodmark.source.sql.values import json_value
from floodmark.wording import iso_time

# Levels of isolation at which one transaction shows one moment, the best first.
_LEVELS = ("SNAPSHOT", "REPEATABLE READ", "SERIALIZABLE")


class OpenSnapshot(Struct, frozen=True):
    """Connections that show one moment. `taken_at` is a time just before it; the moment holds all commits until then.

    `consistency` names in words what the snapshot is. It is `mixed` if tables can show different moments. `note` is the
    dialect's own.
    """

    connections: tuple[Connection, ...]
    identity: SourceIdentity
    taken_at: str
    consistency: str
    default_schema: str
    drawbacks: tuple[Drawback, ...] = ()
    mixed: bool = False
    note: Any = None


class Dialect:
    """A database as SQLAlchemy knows it. Databases that Floodmark knows better have subclasses."""

    # True if a snapshot shows definitions as it shows rows, so that they can't change under it.
    definitions_stay: ClassVar[bool] = False
    # True if each task runs in a savepoint, so that an error of one table does not end the snapshot.
    savepoints: ClassVar[bool] = True
    # SQLAlchemy's options of a statement whose rows are read one after another, whatever their number. With
    # `stream_results`, the number of rows in memory at a time depends on their size.
    streaming: ClassVar[Mapping[str, Any]] = {"stream_results": True}
    # The name of the database's maker in messages.
    product: ClassVar[str] = "The database"

    def __init__(self, url: URL, options: SqlOptions) -> None:
        self.url = url
        self.options = options
        self._quote = None if url.get_dialect().requires_name_normalize else True

    # The connection

    @property
    def name(self) -> str:
        """Return the name that goes into the manifest as the source's dialect."""
        return self.url.get_backend_name()

    @property
    def label(self) -> str:
        """Return the location without a secret."""
        return label_of(self.url)

    def make_engine(self) -> Engine:
        """Return an engine that keeps no connection of its own. Raises ConfigError if no driver is installed."""
        return made_engine(self.url)

    def diagnose(self, connection: Connection) -> Sequence[Diagnosis]:
        """Return what `floodmark doctor` says of the server and of the role's rights."""
        known = self.identity(connection)
        name = known.dialect if self.product == Dialect.product else self.product
        return [Diagnosis("database", f"{self.label} answers: {name} {known.server_version}".rstrip())]

    def open_snapshot(self, engine: Engine, connections: int) -> OpenSnapshot:
        """Take a snapshot with up to `connections` connections. A driver's errors pass through.

        If it raises, it leaves no connection open.
        """
        connection = engine.connect()
        try:
            level = _strongest_level(connection)
            if level is not None:
                connection = connection.execution_options(isolation_level=level)
            taken_at = iso_time(datetime.now(UTC), "microseconds")
            return OpenSnapshot(
                connections=(connection,),
                identity=self.identity(connection),
                taken_at=taken_at,
                consistency=_consistency(level),
                default_schema=inspect(connection).default_schema_name or "",
                drawbacks=(self._unknown_consistency(),),
                mixed=level is None,
            )
        except BaseException:
            connection.close()
            raise

    def identity(self, connection: Connection) -> SourceIdentity:
        """Return the identity of the database. It must hold from run to run."""
        return SourceIdentity(self.name, place_digest(self.url), self.url.database or "", version_text(connection))

    def _unknown_consistency(self) -> Drawback:
        return Drawback(
            f"Floodmark does not know {self.name}: its transactions might not show one moment, or writers might wait.",
            "Compare a landed table with the database before you rely on it.",
        )

    def is_usable(self, connection: Connection) -> bool:
        """Return False if the connection must not be used for another task, although it might live."""
        return True

    def close_snapshot(self, snapshot: OpenSnapshot) -> None:
        """Release what the snapshot holds apart from its connections. Never raises."""

    def table_drawbacks(self, tables: Sequence[SqlTable]) -> tuple[Drawback, ...]:
        """Return the limits of a snapshot that concern the selected tables."""
        return ()

    # The catalog

    def relations(self, connection: Connection) -> list[SqlRelation]:
        """Return every table and view that a user could mean, without the database's own."""
        return reflected_relations(connection)

    def facts(self, connection: Connection, relation: SqlRelation) -> TableFacts:
        """Return the facts about one relation. A driver's error means that its definition can't be read."""
        return reflected_facts(connection, relation)

    def measure(self, connection: Connection, table: SqlTable) -> tuple[int, int] | None:
        """Return about how many rows the table has and how many bytes they take. None: sample the lines."""
        facts = table.facts
        return None if facts.rows is None or facts.bytes is None else (facts.rows, facts.bytes)

    # Statements

    def quoted(self, name: str) -> quoted_name:
        """Return an identifier that is always in quotes, unless SQLAlchemy changes the case of names (Oracle)."""
        return quoted_name(name, quote=self._quote)

    def from_clause(self, relation: SqlRelation, facts: TableFacts) -> FromClause | TextClause:
        """Return what rows are selected from."""
        schema = relation.table.schema
        return table(self.quoted(relation.table.name), schema=self.quoted(schema) if schema else None)

    def expression(self, chosen: SqlColumn) -> ColumnElement[Any]:
        """Return what is selected for a column, of no type to SQLAlchemy: so the driver's value comes as it is."""
        plain: ColumnElement[Any] = column(self.quoted(chosen.name))
        return cast(plain, Text) if is_json(chosen.note) or is_interval(chosen.note) else plain

    def maker(self, chosen: SqlColumn) -> Maker | None:
        """Return what turns a column's values into JSON values. None: `values` decides by each value's type."""
        return json_value if is_json(chosen.note) else None

    def key_expression(self, key: KeyColumn) -> ColumnElement[Any]:
        """Return the key's column as it is ordered and compared. No label of an `expression` can have its name."""
        found: ColumnElement[Any] = column(self.quoted(key.name))
        return found if key.collation is None else found.collate(key.collation)

    def bound(self, key: KeyColumn, value: Any) -> ColumnElement[Any]:
        """Return a parameter to compare the key with. It has no type: the driver gets the value as it gave it."""
        return bindparam(None, value, type_=NullType())

    def check_filter(self, connection: Connection, statement: Select[Any]) -> Exception | None:
        """Return the driver's error if the database refuses a statement because of its text. No row is read."""
        try:
            connection.execute(statement.where(literal_column("1 = 0"))).close()
        except DBAPIError as error:
            self.end_task(connection)  # a failed statement can have ended more than itself
            self.begin_task(connection)
            return error
        return None

    def undigestible(self, facts: TableFacts, chosen: Sequence[SqlColumn], where: str | None) -> str | None:
        """Return why no digest can prove a table whose facts say that digests can, or None.

        Lines and their digest come from two statements. So both must depend on nothing but the rows.
        """
        return None

    def refused_filter_text(self, connection: Connection, where: str) -> tuple[str, str] | None:
        """Return why a filter is refused by its text, and a hint, without asking the database. None: it is not."""
        return None

    def refused_filter(self, error: Exception, columns: Sequence[str]) -> tuple[str, str]:
        """Return why a filter is refused, and a hint. Neither holds a value."""
        return f"{self.product} refuses it", "Write one SQL condition on its own columns."

    # Reading

    def begin_task(self, connection: Connection, tables: Sequence[SqlTable] = ()) -> None:
        """Begin one task: a look at the catalog, the observation of some chunks, or the extraction of one.

        It reads no other tables than these.
        """
        if self.savepoints:
            connection.begin_nested()

    def check_task(self, connection: Connection, snapshot: OpenSnapshot, tables: Sequence[SqlTable]) -> None:
        """Raise SnapshotLost if a table that was just read is not the snapshot's. Locks of the task are still held."""

    def end_task(self, connection: Connection) -> None:
        """End the task, whether it succeeded or not, and release the locks that it took."""
        scope = connection.get_nested_transaction()
        if scope is not None:
            scope.rollback()

    def rows(self, result: CursorResult[Any]) -> Iterable[Sequence[Any]]:
        """Return the rows of a statement that was executed to stream, a few of them in memory at a time."""
        return result

    def digest(
        self, connection: Connection, table: SqlTable, condition: ColumnElement[bool] | None
    ) -> tuple[int, str | None]:
        """Return the number of rows of a range, and their digest: 64 hex digits. Only asked if `facts.digests`.

        Without a digest, nothing is proven of the range.
        """
        raise NotImplementedError

    # Errors

    def lost_connection(self, error: Exception) -> bool:
        """Return True if the connection broke, so that the snapshot lives on in the others only."""
        return isinstance(error, DBAPIError) and error.connection_invalidated

    def code(self, error: Exception) -> str:
        """Return the database's code for an error: a name or number that can't hold a value."""
        return error_name(error)

    def hint(self, code: str) -> str | None:
        """Return what to do about an error."""
        return None

    def refusal(self, error: Exception) -> SourceError:
        """Translate an error that came up before there was a snapshot: SourceUnavailable if waiting may help."""
        code = self.code(error)
        may_help = isinstance(error, OperationalError | OSError) or self.lost_connection(error)
        kind = SourceUnavailable if may_help else SourceError
        hint = self.hint(code) or "Check the address, the user and the password, and that the server answers."
        return kind("can't open the source", on=self.label, why=code, hint=hint)

    def failure(self, error: Exception, what: str, table: TableName, where: str | None) -> SourceError:
        """Translate an error of one table while the connection lives."""
        code = self.code(error)
        hint = self.hint(code)
        if hint is None and where is not None:
            hint = f"tables.rules.*.where must be a condition that {self.product} accepts."
        return TableError(what, on=table.label, why=code, hint=hint)


def _strongest_level(connection: Connection) -> str | None:
    """Return the level of isolation to use, or None to keep the database's own."""
    try:
        offered = connection.dialect.get_isolation_level_values(connection.connection.dbapi_connection)  # type: ignore[arg-type]
    except NotImplementedError:
        return None
    return next((level for level in _LEVELS if level in offered), None)


def _consistency(level: str | None) -> str:
    kind = "transaction at the database's default isolation level" if level is None else f"{level.lower()} transaction"
    return f"one {kind}"
