"""`floodmark journal`: install, enable, status, disable, trim and remove the change journal of a PostgreSQL source."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from floodmark.cli.output.figures import count, size
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.config import Flags, Secret
from floodmark.config.load import load_source
from floodmark.errors import EXIT_OK, ConfigError, UsageError
from floodmark.escaping import printable
from floodmark.journal import change
from floodmark.journal.connection import JournalConnection
from floodmark.journal.plan import TableChange
from floodmark.journal.status import JournalDocument, JournalTableView, read_status
from floodmark.model import TableName
from floodmark.source.postgres.address import ServerAddress, address
from floodmark.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

_TABLES = (Column("table"), Column("journal"), Column("relations", right=True, rank=1), Column("faults", sentence=True))
_SUBSCRIBED = "a logical subscription writes to it: no trigger sees that"
_REPAIR = "to repair the journal: floodmark journal remove, then install and enable"
_NOT_INSTALLED = "the journal is not installed"


def journal(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Call the command of the group."""
    return {
        "install": _install,
        "enable": _change,
        "status": _status,
        "disable": _change,
        "trim": _trim,
        "remove": _remove,
    }[options.journal_command](options, streams)


def _install(options: argparse.Namespace, streams: CommandStreams) -> int:
    from floodmark.journal import install  # noqa: PLC0415 - by need: SQLAlchemy takes 0.2 s to load

    if options.sql:
        streams.out.write(install.install_sql(options.start or "base", options.grant_to))
        return EXIT_OK
    if options.start is not None:
        raise UsageError("the command line is not understood", why="--from goes with --sql", hint="Add --sql.")
    done = install.install(_where(options, streams), options.grant_to)
    if done.before == done.after:
        streams.out.write(f"The journal is up to date: revision {done.after}.\n")
    else:
        streams.out.write(f"Installed revision {done.after}. The next step: floodmark journal enable TABLE\n")
    return EXIT_OK


def _change(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Enable or disable the journal of tables."""
    action = options.journal_command
    with JournalConnection(_where(options, streams)) as connection:
        if options.sql:
            streams.out.write(_scripts(change.planned(connection, action, options.table)))
            return EXIT_OK
        changes = getattr(change, action)(connection, options.table, streams.report_retry)
    past = "enabled" if action == "enable" else "disabled"
    for one in changes:
        done = plural(len(one.locked), "relation") if one.statements else "nothing to do"
        streams.out.write(f"{printable(one.table.label)}: {past}, {done}\n")
    return EXIT_OK


def _scripts(changes: Sequence[TableChange]) -> str:
    scripts = [one.script() for one in changes if one.statements]
    return "\n".join(scripts) if scripts else "-- There is nothing to do.\n"


def _status(options: argparse.Namespace, streams: CommandStreams) -> int:
    found = read_status(_where(options, streams))
    if options.output == "json":
        streams.print_json(found)
    else:
        streams.out.write(status_text(found, console(streams.out, streams.environ)))
    return EXIT_OK


def status_text(found: JournalDocument, to: Console) -> str:
    """Return the state of the journal as text."""
    if found.revision is None:
        return f"{_NOT_INSTALLED}\n"
    rows = [
        (TableName(one.schema, one.name).label, one.state, count(one.relations), "; ".join(_faults(one)) or "none")
        for one in found.tables
    ]
    table = draw(_TABLES, rows, to) if rows else "no table has the journal on\n"
    newer = "" if found.revision == found.expected else f", {found.expected} is available"
    floor = "nothing can be proven before the next trim" if found.floor is None else f"floor {found.floor}"
    line = f"revision {found.revision}{newer}; {plural(found.rows or 0, 'row')}, {size(found.bytes)}; {floor}"
    faults = "".join(wrap(f"fault: {printable(one)}", to) for one in found.faults)
    return table + wrap(line, to) + faults + (wrap(_REPAIR, to) if faults else "")


def _faults(one: JournalTableView) -> list[str]:
    """Return the faults of a table's triggers, each with its relation unless that is the table itself."""
    found = [_SUBSCRIBED] if one.subscribed else []
    for fault in one.faults:
        on = "" if (fault.schema, fault.name) == (one.schema, one.name) else f" on {fault.schema}.{fault.name}"
        found.append(f"{fault.trigger} {fault.state}{on}")
    return found


def _trim(options: argparse.Namespace, streams: CommandStreams) -> int:
    from floodmark.journal import install  # noqa: PLC0415 - by need: SQLAlchemy takes 0.2 s to load

    done = install.trim(_where(options, streams), options.keep)
    streams.out.write(f"deleted {plural(done.deleted, 'row')}; floor {done.floor}\n")
    return EXIT_OK


def _remove(options: argparse.Namespace, streams: CommandStreams) -> int:
    from floodmark.journal import install  # noqa: PLC0415 - by need: SQLAlchemy takes 0.2 s to load

    where = _where(options, streams)
    if options.sql:
        streams.out.write(install.remove_sql(where))
        return EXIT_OK
    streams.out.write(f"Removed the journal, with {plural(install.remove(where, streams.report_retry), 'trigger')}.\n")
    return EXIT_OK


def _where(options: argparse.Namespace, streams: CommandStreams) -> ServerAddress:
    """Return the address of the database. Raises ConfigError if it is not PostgreSQL."""
    flag = None if options.source is None else Secret(options.source)
    url = load_source(Flags(config=options.config, source=flag), streams.environ).url
    scheme = "postgresql" if url is None else url.reveal().split(":", 1)[0].split("+", 1)[0]
    if scheme not in ("postgresql", "postgres"):
        raise ConfigError("can't use the journal", on=scheme, why="only PostgreSQL has it", hint="Use postgresql://.")
    return address(url)
