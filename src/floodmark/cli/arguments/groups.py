"""Groups of options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from floodmark.cli.arguments.values import count, port
from floodmark.cli.output.log_events import LEVELS
from floodmark.cli.output.logs import FORMATS
from floodmark.layout import LAYOUTS
from floodmark.model import Format, Numbers

_RUN = "the run's id, or its beginning (default: the current run)"


class _Once(argparse.Action):
    """An option that can be given once. argparse would silently take the last value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given more than once, and this command reads one state")
        setattr(namespace, self.dest, values)


def add_places(command: argparse.ArgumentParser, *, source: bool, several: bool = False) -> None:
    """Add the options of places. With `several` states, `cli.settings.several_states` reads them."""
    places = command.add_argument_group("places")
    if source:
        places.add_argument("--source", metavar="URL", help="the database to read, without a password")
    places.add_argument("--destination", metavar="URL", help="the place of the data: s3://bucket/prefix, or a folder")
    if several:
        text = "the place of a state; can be repeated (default: DESTINATION/_floodmark/)"
        places.add_argument("--state", dest="states", action="append", default=[], metavar="URL", help=text)
    else:
        text = "the place of the state (default: DESTINATION/_floodmark/)"
        places.add_argument("--state", action=_Once, metavar="URL", help=text)
    places.add_argument("--config", type=Path, metavar="FILE", help="the configuration file (default: floodmark.yaml)")


def add_lines(command: argparse.ArgumentParser) -> None:
    lines = command.add_argument_group("keys and lines")
    lines.add_argument(
        "--layout", choices=tuple(LAYOUTS), help="the layout of the destination (default: chosen by its name)"
    )
    lines.add_argument("--format", choices=get_args(Format), help="the format of the rows (default: jsonl)")
    lines.add_argument(
        "--numbers",
        choices=get_args(Numbers),
        help="quote-large writes numbers beyond 64 bits as strings (default: as-is)",
    )


def add_table(to: argparse._ActionsContainer) -> None:
    to.add_argument(
        "--table", action="append", default=[], metavar="T", help="only this table or pattern; can be repeated"
    )


def add_exclude(to: argparse._ActionsContainer) -> None:
    to.add_argument(
        "--exclude", action="append", default=[], metavar="T", help="not this table or pattern; can be repeated"
    )


def add_selection(command: argparse.ArgumentParser) -> None:
    tables = command.add_argument_group("tables")
    add_table(tables)
    add_exclude(tables)
    tables.add_argument("--full", action="store_true", help="extract every table, even if it is proven unchanged")
    safety = command.add_argument_group("safety")
    safety.add_argument(
        "--adopt-source", action="store_true", help="take over a state that belongs to another database"
    )
    safety.add_argument(
        "--accept-loss",
        action="store_true",
        help="commit although more is gone than the guards allow, or there is no table",
    )
    safety.add_argument(
        "--allow-unconditional-writes",
        action="store_true",
        help="accept a store without conditional writes: two concurrent runs can then lose a commit",
    )
    safety.add_argument(
        "--connections", type=count, metavar="N", help="use at most N connections to the source (default: 4)"
    )


def add_metrics(command: argparse.ArgumentParser) -> None:
    metrics = command.add_argument_group("metrics")
    metrics.add_argument("--metrics-port", type=port, metavar="N", help="serve metrics at this port during the run")
    metrics.add_argument("--push-gateway", metavar="URL", help="push metrics to this Pushgateway")
    metrics.add_argument("--metrics-textfile", metavar="FILE", help="write metrics to this file")


def add_engine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine", metavar="URL", help="let the workers of this Dask scheduler do the work: dask://HOST:8786"
    )


def add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output", choices=("text", "json"), default="text", help="the form of stdout (default: text)"
    )


def add_verbosity(command: argparse.ArgumentParser, *, quiet: bool) -> None:
    """Add --verbose, and for a command that does work also --quiet. They choose what the text on stdout lists."""
    if not quiet:
        command.set_defaults(quiet=False)
        command.add_argument("--verbose", action="store_true", help="list the unchanged tables too")
        return
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--verbose", action="store_true", help="list the unchanged tables too")
    choice.add_argument("--quiet", action="store_true", help="print only problems")


def add_log(command: argparse.ArgumentParser) -> None:
    log = command.add_argument_group("log")
    log.add_argument("--log-format", choices=FORMATS, help="the form of the log on stderr (default: auto)")
    log.add_argument(
        "--log-level", choices=LEVELS, help="the lowest level to log (default: info; on a terminal: warning)"
    )


def add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", nargs="?", metavar="RUN", help=_RUN)


def add_text(command: argparse.ArgumentParser, help: str) -> None:
    command.add_argument("--text", action="append", default=[], metavar="S.T.C", help=help)
