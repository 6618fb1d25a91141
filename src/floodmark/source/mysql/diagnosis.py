"""The facts that `floodmark doctor` reports of a MariaDB or MySQL server. To find them, it only asks.

The drawbacks of a snapshot say what a missing right costs. Here are the rights themselves, with a statement to type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import URL, Connection

from floodmark.source.base import Diagnosis
from floodmark.source.mysql.connect import is_local
from floodmark.source.mysql.privileges import account_of
from floodmark.wording import plural

# The newest version of MariaDB that the tests ran on. None of them ran on MySQL.
TESTED_UP_TO = (10, 11)
_COMPARE = "Compare what landed with the database before you rely on it: floodmark verify --against-source."
_SERVER = (
    "SELECT VERSION(), @@version_comment, CURRENT_USER(), @@max_connections, @@max_user_connections, @@log_bin, "
    "@@GLOBAL.time_zone, @@system_time_zone"
)
_STATUS = "SHOW STATUS WHERE Variable_name IN ('Ssl_cipher', 'Threads_connected')"
_GLOBAL_GRANT = re.compile(r"GRANT (.*) ON \*\.\* TO .*", re.DOTALL)
_UNVERIFIED = ("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity")
# The older names of privileges, which MySQL still uses.
_OLD_NAMES = {"REPLICATION CLIENT": "BINLOG MONITOR"}


class ServerFacts(Struct, frozen=True, array_like=True):
    """The facts of a server and of the session's `user`, which has the form name@host."""

    version: str
    comment: str
    user: str
    most: int
    most_of_user: int
    log_bin: int
    time_zone: str
    system_zone: str

    @property
    def maria(self) -> bool:
        return "mariadb" in f"{self.version} {self.comment}".lower()

    @property
    def product(self) -> str:
        return "MariaDB" if self.maria else "MySQL"

    @property
    def account(self) -> str:
        """Return the user as GRANT wants it."""
        return account_of(self.user)

    @property
    def useful_rights(self) -> tuple[str, ...]:
        """Return the global privileges that a run can use on this server."""
        if not self.maria:
            return ("PROCESS", "RELOAD")
        return ("PROCESS", "BINLOG MONITOR", "BINLOG ADMIN") if self.log_bin else ("PROCESS", "RELOAD")


def diagnose(connection: Connection, url: URL, label: str, connections: int) -> list[Diagnosis]:
    """Return what can be said of the server, of the connection and of the user's rights."""
    facts = ServerFacts(*connection.exec_driver_sql(_SERVER).one())
    status = {str(name).lower(): str(value) for name, value in connection.exec_driver_sql(_STATUS).all()}
    grants = [str(grant) for (grant,) in connection.exec_driver_sql("SHOW GRANTS").all()]
    return [
        Diagnosis("database", f"{label} answers: {facts.product} {facts.version}, as {facts.user}"),
        judged_version(facts),
        judged_tls(bool(status.get("ssl_cipher")), url),
        judged_rights(global_rights(grants), facts),
        judged_binary_log(facts),
        judged_room(facts, int(status.get("threads_connected", "0")), connections),
        judged_zone(facts),
    ]


def judged_version(facts: ServerFacts) -> Diagnosis:
    if not facts.maria:
        return Diagnosis("version", "no test of Floodmark ran on a MySQL server, only on MariaDB", _COMPARE)
    tested = ".".join(map(str, TESTED_UP_TO))
    if tuple(int(part) for part in re.findall(r"\d+", facts.version)[:2]) > TESTED_UP_TO:
        return Diagnosis("version", f"this server is newer than MariaDB {tested}, which the tests ran on", _COMPARE)
    return Diagnosis("version", f"not newer than MariaDB {tested}, which the tests ran on")


def judged_tls(in_use: bool, url: URL) -> Diagnosis:
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    used = "TLS is in use" if in_use else "TLS is not in use"
    if is_local(url, query):
        return Diagnosis("tls", f"{used}; the server is on this machine")
    given = [name for name in _UNVERIFIED if name in query]
    if in_use and not given:
        return Diagnosis("tls", "TLS is in use, and the server's identity is verified")
    found = f"{used}, but the server's identity is not verified: an impostor would get all data"
    fix = f"Remove {' and '.join(given) or 'the TLS parameters'} from the URL. ssl_ca names a file with another CA."
    return Diagnosis("tls", found, fix)


def judged_rights(rights: frozenset[str], facts: ServerFacts) -> Diagnosis:
    """Judge the global privileges that a run can use. SELECT is checked table by table."""
    missing = [right for right in facts.useful_rights if right not in rights]
    if not missing:
        return Diagnosis("global rights", f"{facts.user} has {', '.join(facts.useful_rights)}")
    found = f"{facts.user} lacks {', '.join(missing)}: a run works, but slower, or it starts again more often"
    return Diagnosis("global rights", found, f"GRANT {', '.join(missing)} ON *.* TO {facts.account};")


def judged_binary_log(facts: ServerFacts) -> Diagnosis:
    if facts.log_bin and facts.maria:
        return Diagnosis("binary log", "log_bin is on: it can show that connections share a snapshot")
    found = "does not show a snapshot's position" if facts.log_bin else "log_bin is off"
    return Diagnosis("binary log", f"{found}: connections share a snapshot only with RELOAD")


def judged_room(facts: ServerFacts, connected: int, wanted: int) -> Diagnosis:
    """Judge the number of further connections. A run needs one more than it reads with."""
    needed, free, limit = wanted + 1, facts.most - connected + 1, f"max_connections is {facts.most}"
    if 0 < facts.most_of_user < free:
        free, limit = facts.most_of_user, f"max_user_connections is {facts.most_of_user}"
    if free >= needed:
        return Diagnosis("connections", f"{plural(needed, 'connection')} can be opened ({limit})")
    fix = f"Set limits.connections to {max(1, free - 1)}, or raise the limit."
    return Diagnosis("connections", f"a run opens {needed}, and {free} can be opened now ({limit})", fix)


def judged_zone(facts: ServerFacts) -> Diagnosis:
    zone = facts.system_zone if facts.time_zone == "SYSTEM" else facts.time_zone
    found = f"the server's time zone is {zone}; a run reads timestamp in UTC, and datetime as it is stored"
    return Diagnosis("time zone", found)


def global_rights(grants: Sequence[str]) -> frozenset[str]:
    """Return the global privileges in the lines of SHOW GRANTS, those of active roles too."""
    matches = (_GLOBAL_GRANT.fullmatch(grant) for grant in grants)
    listed = [one.strip() for match in matches if match is not None for one in match[1].split(",")]
    if any(one.startswith("ALL PRIVILEGES") for one in listed):
        return frozenset({"PROCESS", "RELOAD", "BINLOG MONITOR", "BINLOG ADMIN"})
    return frozenset(_OLD_NAMES.get(one, one) for one in listed)
