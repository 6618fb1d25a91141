"""The command-line grammar, and its conversion to `config.Flags`.

A wrong command line raises UsageError. The message repeats no value, because one can be a URL with a password.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, get_args

from floodmark.cli.logs import FORMATS, LEVELS
from floodmark.config import Flags, Secret
from floodmark.config.document import did_you_mean
from floodmark.config.values import parse_size
from floodmark.errors import UsageError
from floodmark.layout import LAYOUTS
from floodmark.model import Format, Numbers
from floodmark.version import __version__
from floodmark.wording import plural

_MIN_MEMORY = 64 * 1024**2
_URL = re.compile(r"\S*://\S*")
_DESCRIPTION = (
    "Lands a database in S3, or in a folder, every night: moves only what changed, and proves the rest unchanged."
)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError and accepts no abbreviations."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        hint = f"See `{self.prog} --help`."
        raise UsageError("the command line is not understood", why=_URL.sub("***", message), hint=hint)


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(prog="floodmark", description=_DESCRIPTION)
    top.add_argument("--version", action="version", version=f"floodmark {__version__}", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="extract what changed and publish one manifest")
    plan = commands.add_parser("plan", help="what a run would do, and why; reads only")
    for command in (run, plan):
        _add_places(command, source=True)
        _add_layout(command)
        _add_selection(command)
        _add_output(command)
        _add_log(command)
    _add_metrics(run)
    plan.add_argument("--detailed-exitcode", action="store_true", help="end with 20 when there is work, 0 when none")
    _add_readers(commands)
    _add_consumers(commands)
    _add_deliver(commands)
    _add_exporter(commands)
    _add_verify(commands)
    _add_prune(commands)
    _add_helpers(commands)
    demo = commands.add_parser("demo", help="three days of a service's database, on a real PostgreSQL")
    demo.add_argument(
        "--directory",
        type=Path,
        default=Path("floodmark-demo"),
        metavar="D",
        help="where the demo's files go (default: floodmark-demo)",
    )
    return top


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line. Raises UsageError, and SystemExit after --help, --version and an empty line."""
    top, given = parser(), sys.argv[1:] if argv is None else argv
    if not given:
        top.print_help()
        raise SystemExit(0)
    _require_command(top, given[0])
    options, extra = top.parse_known_args(given)
    if extra:
        _refuse(top, options.command, extra)
    return options


def flags(options: argparse.Namespace) -> Flags:
    """Return the settings that the command line gives."""
    source, gateway = getattr(options, "source", None), getattr(options, "push_gateway", None)
    return Flags(
        config=options.config,
        source=None if source is None else Secret(source),
        destination=options.destination,
        state=options.state,
        layout=getattr(options, "layout", None),
        format=getattr(options, "format", None),
        numbers=getattr(options, "numbers", None),
        tables=tuple(getattr(options, "table", ())),
        exclude=tuple(getattr(options, "exclude", ())),
        connections=getattr(options, "connections", None),
        full=getattr(options, "full", False),
        adopt_source=getattr(options, "adopt_source", False),
        allow_unconditional_writes=getattr(options, "allow_unconditional_writes", False),
        metrics_port=getattr(options, "metrics_port", None),
        push_gateway=None if gateway is None else Secret(gateway),
        metrics_textfile=getattr(options, "metrics_textfile", None),
        grace=getattr(options, "grace", None),
    )


def option_strings(command: str | None = None) -> Iterator[str]:
    """Yield every option of a command, or of `floodmark` itself, except --help."""
    found = parser() if command is None else subcommands(parser())[command]
    for action in found._actions:
        yield from (text for text in action.option_strings if text not in ("-h", "--help"))


def subcommands(top: Parser) -> dict[str, Parser]:
    """Return a parser's commands by name; none for a command that has only options."""
    actions = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return {name: command for action in actions for name, command in action.choices.items()}


def _add_readers(commands: argparse._SubParsersAction[Parser]) -> None:
    status = commands.add_parser("status", help="tables, how fresh they are, and the last decision on each")
    history = commands.add_parser("history", help="the runs, newest first")
    history.add_argument("--limit", type=_count, default=20, metavar="N", help="at most so many runs (default: 20)")
    show = commands.add_parser("show", help="one run's manifest: every table with its details")
    show.add_argument("run", nargs="?", metavar="RUN", help="the run's id, or its beginning (default: the current run)")
    for command in (status, history, show):
        _add_places(command, source=False)
        _add_output(command)


def _add_consumers(commands: argparse._SubParsersAction[Parser]) -> None:
    load = commands.add_parser("load", help="bring a DuckDB file, Parquet files or a Glue database up to date")
    load.add_argument("--into", required=True, metavar="TARGET", help="duckdb:FILE, parquet:URL or glue:DATABASE")
    load.add_argument("--files", metavar="URL", help="with glue: where the files go (default: the database's location)")
    load.add_argument(
        "--memory", type=_memory, metavar="SIZE", help="with duckdb: how much DuckDB may use (default: 192MiB)"
    )
    load.add_argument(
        "--text", action="append", default=[], metavar="S.T.C", help="load this column as text; may be repeated"
    )
    load.add_argument("--full", action="store_true", help="load everything anew, whatever the target holds")
    load.add_argument("--drop", action="store_true", help="drop tables that are no longer part of the snapshot")
    load.add_argument("--adopt-source", action="store_true", help="take over a target that holds another database's")
    schema = commands.add_parser("schema", help="what the tables look like, for other tools")
    schema.add_argument("--format", choices=("mojap", "json-schema"), required=True, help="the kind of document")
    schema.add_argument(
        "--layout",
        dest="to_layout",
        choices=tuple(LAYOUTS),
        help="with mojap: the names that a delivery in this layout gives (default: those of the run's own keys)",
    )
    schema.add_argument("--database-name", metavar="N", help="with mojap: the database's name in the delivery's keys")
    schema.add_argument(
        "--text", action="append", default=[], metavar="S.T.C", help="with mojap: this column is text; may be repeated"
    )
    for command in (load, schema):
        command.add_argument(
            "--table", action="append", default=[], metavar="T", help="only this table or pattern; may be repeated"
        )
        if command is load:
            _add_exclude(load)
        _add_places(command, source=False)
    _add_output(load)
    _add_log(load)


def _add_deliver(commands: argparse._SubParsersAction[Parser]) -> None:
    deliver = commands.add_parser("deliver", help="hand changed tables to a landing zone, each as a whole set of files")
    deliver.add_argument("--to", metavar="URL", help="where to (default: what the configuration's `deliver` says)")
    deliver.add_argument("--name", metavar="N", help="the delivery's name: what it has delivered is remembered by it")
    deliver.add_argument(
        "--layout",
        dest="to_layout",
        choices=tuple(LAYOUTS),
        help="with --to: what is demanded (default: by its name)",
    )
    deliver.add_argument(
        "--numbers",
        dest="to_numbers",
        choices=get_args(Numbers),
        help="with --to: quote-large sends numbers beyond 64 bits as strings",
    )
    deliver.add_argument(
        "--table", action="append", default=[], metavar="T", help="only this table or pattern; may be repeated"
    )
    _add_exclude(deliver)
    _add_places(deliver, source=False)
    _add_output(deliver)
    _add_log(deliver)


def _add_exclude(to: argparse._ActionsContainer) -> None:
    to.add_argument(
        "--exclude", action="append", default=[], metavar="T", help="not this table or pattern; may be repeated"
    )


def _add_verify(commands: argparse._SubParsersAction[Parser]) -> None:
    verify = commands.add_parser("verify", help="prove that the objects are what the manifest says")
    verify.add_argument(
        "run", nargs="?", metavar="RUN", help="the run's id, or its beginning (default: the current run)"
    )
    verify.add_argument("--deep", action="store_true", help="read every object: content, rows, checksums")
    verify.add_argument("--against-source", action="store_true", help="read the database again, and compare")
    _add_places(verify, source=True)
    verify.add_argument(
        "--table", action="append", default=[], metavar="T", help="only this table or pattern; may be repeated"
    )
    verify.add_argument("--connections", type=_count, metavar="N", help="at most so many connections to the source")
    _add_output(verify)


def _add_prune(commands: argparse._SubParsersAction[Parser]) -> None:
    prune = commands.add_parser("prune", help="delete old snapshots, and what dead runs left behind")
    rule = prune.add_mutually_exclusive_group(required=True)
    rule.add_argument("--keep-days", type=_count, metavar="N", help="keep what was current in the last so many days")
    rule.add_argument("--keep-last", type=_count, metavar="N", help="keep so many snapshots")
    rule.add_argument("--erase-before", type=_moment, metavar="DATE", help="keep no data extracted before this date")
    prune.add_argument("--grace", metavar="SPAN", help="how long readers and runs may take (default: 7d)")
    prune.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    _add_places(prune, source=False)
    _add_output(prune)


def _add_places(command: argparse.ArgumentParser, *, source: bool) -> None:
    places = command.add_argument_group("places")
    if source:
        places.add_argument("--source", metavar="URL", help="the database to read, without a password")
    places.add_argument("--destination", metavar="URL", help="where the data goes: s3://bucket/prefix, or a folder")
    places.add_argument("--state", metavar="URL", help="where the state lies (default: DESTINATION/_floodmark/)")
    places.add_argument("--config", type=Path, metavar="FILE", help="the configuration (default: floodmark.yaml)")


def _add_layout(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--layout", choices=tuple(LAYOUTS), help="what the receiver of the destination demands (default: by its name)"
    )
    command.add_argument("--format", choices=get_args(Format), help="what a table's rows become (default: jsonl)")
    command.add_argument(
        "--numbers", choices=get_args(Numbers), help="quote-large: numbers beyond 64 bits as strings (default: as-is)"
    )


def _add_selection(command: argparse.ArgumentParser) -> None:
    tables = command.add_argument_group("tables")
    tables.add_argument(
        "--table", action="append", default=[], metavar="T", help="only this table or pattern; may be repeated"
    )
    _add_exclude(tables)
    tables.add_argument("--full", action="store_true", help="extract everything, whatever is proven")
    safety = command.add_argument_group("safety")
    safety.add_argument("--adopt-source", action="store_true", help="take over a state that is another database's")
    safety.add_argument(
        "--allow-unconditional-writes",
        action="store_true",
        help="accept a store without conditional writes, and that two runs at once may lose one's commit",
    )
    command.add_argument(
        "--connections", type=_count, metavar="N", help="at most so many connections to the source (default: 4)"
    )


def _add_metrics(run: argparse.ArgumentParser) -> None:
    metrics = run.add_argument_group("metrics")
    metrics.add_argument("--metrics-port", type=_port, metavar="N", help="serve metrics at this port during the run")
    metrics.add_argument("--push-gateway", metavar="URL", help="push metrics to this Pushgateway")
    metrics.add_argument("--metrics-textfile", metavar="FILE", help="write metrics to this file")


def _add_exporter(commands: argparse._SubParsersAction[Parser]) -> None:
    exporter = commands.add_parser("exporter", help="serve metrics of what the state tells, until it is stopped")
    _add_places(exporter, source=False)
    exporter.add_argument("--port", type=_port, default=9464, metavar="N", help="the port to listen at (default: 9464)")
    exporter.add_argument("--address", default="", metavar="A", help="the address to listen at (default: every one)")
    exporter.add_argument(
        "--interval", type=_count, default=60, metavar="SECONDS", help="how often to read the state (default: 60)"
    )
    _add_log(exporter)


def _add_helpers(commands: argparse._SubParsersAction[Parser]) -> None:
    doctor = commands.add_parser("doctor", help="check all that a run stands on, and say what would mend it")
    _add_places(doctor, source=True)
    _add_layout(doctor)
    _add_selection(doctor)
    _add_metrics(doctor)
    _add_output(doctor)
    init = commands.add_parser("init", help="write a floodmark.yaml; asks for what is not given, on a terminal")
    _add_places(init, source=True)
    init.add_argument("--layout", choices=tuple(LAYOUTS), help="what the receiver of the destination demands")
    config = commands.add_parser("config", help="print what editors and other tools need for floodmark.yaml")
    inner = config.add_subparsers(dest="config_command", metavar="COMMAND", required=True)
    inner.add_parser("schema", help="print the JSON Schema of floodmark.yaml")


def _add_log(command: argparse.ArgumentParser) -> None:
    log = command.add_argument_group("log")
    log.add_argument("--log-format", choices=FORMATS, help="how stderr is written (default: auto)")
    log.add_argument("--log-level", choices=LEVELS, help="what is worth a line (default: info; on a terminal warning)")


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", choices=("text", "json"), default="text", help="what stdout gets (default: text)")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number from 1 on is wanted")
    return number


def _memory(text: str) -> str:
    """Parse a memory size as DuckDB does."""
    try:
        found = parse_size(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    if found < _MIN_MEMORY:
        raise argparse.ArgumentTypeError("DuckDB needs 64MiB or more")
    return text if text[-1].isalpha() else f"{text}B"


def _port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError("a port from 1 to 65535 is wanted")
    return number


_count.__name__ = _port.__name__ = "number"


def _moment(text: str) -> datetime:
    """Parse a date or a time, in UTC unless it names an offset."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment > datetime.now(UTC):
        raise argparse.ArgumentTypeError("the date lies in the future")
    return moment


_moment.__name__ = "date, such as 2026-11-01,"


def _require_command(top: Parser, word: str) -> None:
    """Refuse a first word that is neither a command nor an option of `floodmark` itself. The error omits the word."""
    commands = subcommands(top)
    if word in commands or word in ("-h", "--help", *option_strings()):
        return
    if word.startswith("-"):
        why, hint = "an option stands before the command", "Write floodmark COMMAND [OPTION …]."
    else:
        why, hint = "there is no such command", did_you_mean(word, commands).rstrip()
    raise UsageError("the command line is not understood", why=why, hint=f"{hint} See `floodmark --help`.".lstrip())


def _refuse(top: Parser, command: str, extra: Sequence[str]) -> NoReturn:
    """Raise the error for unknown arguments. It names options and only counts the other arguments."""
    names = [text.partition("=")[0] for text in extra if text.startswith("-")]
    known = list(option_strings(command))
    if not names:
        why = f"{plural(len(extra), 'argument')} too many"
        raise UsageError("the command line is not understood", why=why, hint=f"See `floodmark {command} --help`.")
    having = [name for name in subcommands(top) if names[0] in option_strings(name)]
    hint = did_you_mean(names[0], known)
    if having:
        hint = f"{', '.join(having)} {'has' if len(having) == 1 else 'have'} it. "
    raise UsageError(
        "the command line is not understood",
        why=f"{command} has no option {_URL.sub('***', names[0])}",
        hint=f"{hint}See `floodmark {command} --help`.",
    )
