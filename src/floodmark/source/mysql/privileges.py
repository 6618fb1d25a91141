"""The tables that the role may read only in part, or not at all, and the accounts that GRANT names.

information_schema leaves out what a role has no right to. A column that the role may not select is simply not there, so
a table would land without it. A table on which the role has no right at all can't be known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set

from sqlalchemy import Connection

from floodmark.source.mysql.columns import quoted
from floodmark.source.mysql.refusals import number_of

_STATEMENT = "floodmark_rights"
_NO_RIGHT = (1142, 1143)
# MariaDB lists the grants to active roles in SHOW GRANTS only.
_COLUMN_GRANT = re.compile(r"GRANT (.*) ON `((?:[^`]|``)+)`\.`((?:[^`]|``)+)` TO .*", re.DOTALL)
_BY_COLUMN = """
SELECT DISTINCT TABLE_NAME FROM information_schema.COLUMN_PRIVILEGES
WHERE TABLE_SCHEMA = %s AND PRIVILEGE_TYPE = 'SELECT'"""


def account_of(user: str) -> str:
    """Return a user, such as reader@10.%, as GRANT wants it."""
    name, _, host = user.rpartition("@")
    return "@".join("'" + part.replace("'", "''") + "'" for part in (name, host))


def read_denials(
    connection: Connection, database: str, names: Sequence[str], unselectable: Set[str]
) -> Mapping[str, str]:
    """Return why the role may not read a table as a whole, with the grant that is missing, by the table's name.

    From the `unselectable` tables it may select no column. Raises the error of a table that stays locked.
    """
    ((user,),) = connection.exec_driver_sql("SELECT CURRENT_USER()").all()
    some = {str(name) for (name,) in connection.exec_driver_sql(_BY_COLUMN, (database,)).all()}
    some = (some | _granted_by_column(connection, database)).intersection(names) - unselectable
    partial = [name for name in sorted(some) if not _selects_all(connection, database, name)]
    found = dict.fromkeys(unselectable, "no SELECT") | dict.fromkeys(partial, "SELECT on some columns is not enough")
    return {
        name: f"{why}: GRANT SELECT ON {quoted(database)}.{quoted(name)} TO {account_of(str(user))}"
        for name, why in found.items()
    }


def _granted_by_column(connection: Connection, database: str) -> set[str]:
    grants = [str(grant) for (grant,) in connection.exec_driver_sql("SHOW GRANTS").all()]
    matches = [match for grant in grants if (match := _COLUMN_GRANT.fullmatch(grant)) is not None]
    named = [(one[1], one[2].replace("``", "`"), one[3].replace("``", "`")) for one in matches]
    return {name for rights, schema, name in named if schema == database and "SELECT (" in rights}


def _selects_all(connection: Connection, database: str, name: str) -> bool:
    """Return True if the role may select every column: the server says so when it prepares the statement."""
    statement = f"SELECT * FROM {quoted(database)}.{quoted(name)}"
    try:
        connection.exec_driver_sql(f"PREPARE {_STATEMENT} FROM %s", (statement,))
    except Exception as error:
        if number_of(error) in _NO_RIGHT:
            return False
        raise
    connection.exec_driver_sql(f"DEALLOCATE PREPARE {_STATEMENT}")
    return True
