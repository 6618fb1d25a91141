#!/usr/bin/env python3
"""The container image's entry point: Floodmark's command line, which also takes the old extractor's shell string.

The charts of the extractor that Floodmark replaces pass one line of shell as their only argument. This module runs no
shell. It translates the known lines as a whole, so that a chart needs only a new image. It refuses every other line and
names the equivalent settings. docs/deploy.md describes what happens to the old variables.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from floodmark.cli.arguments import parser, subcommands
from floodmark.cli.main import main as command_line
from floodmark.cli.output.failure import report
from floodmark.cli.output.streams import CommandStreams, Stream
from floodmark.errors import ConfigError, UsageError
from floodmark.places import bucket_of, place_problem

_NAMES, _SEND = "extract_table_names.py", "transfer_local_to_s3.sh"
_JSONL, _CSV = "extract_pg_jsonl_snapshot.py", "extract_psql_all_tables_to_csv.sh"
# The lines that do the whole job, step by step, and the extra options that each of them implies.
KNOWN: dict[tuple[str, ...], tuple[str, ...]] = {
    (_NAMES, _JSONL, _SEND): (),
    (_NAMES, _CSV, _SEND): ("--format", "csv"),
    (_CSV, _SEND): ("--format", "csv"),
}
_DESTINATION = "S3_DESTINATION"
_RDS = ".rds.amazonaws.com"
_COMMAND = re.compile(r"-\S*|[a-z][a-z-]*")
_SCRIPT = re.compile(r"(?:\S*/)?(?:sh|bash|\S+\.(?:py|sh))")
_BARE_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{2,62}(?:/.*)?", re.DOTALL)
_LEFT_OUT = re.compile(r"\bgrep\s+-v\s+(['\"]?)([A-Za-z_]\w{0,62})\1(?=\s|$)", re.ASCII)
_WHAT = "the command is not understood"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the container's arguments and return the exit code. Raises nothing."""
    given = list(sys.argv[1:] if argv is None else argv)
    _end_with_sigterm()
    streams = CommandStreams(Stream(sys.stdout), Stream(sys.stderr), os.environ)
    try:
        arguments = translated(given)
        environ = os.environ if arguments == given else with_bucket(os.environ)
    except (UsageError, ConfigError) as error:
        return report(error, streams)
    if arguments == given:
        return command_line(given)
    streams.notice(f"the old extractor's command is translated to: floodmark {shlex.join(arguments)}")
    if trusts_the_server(os.environ):
        os.environ["PGSSLMODE"] = "prefer"  # libpq reads the process's own environment
        streams.notice("PGSSLMODE=prefer, as before: the database server's certificate is not checked")
    return command_line(arguments, environ)


def translated(given: Sequence[str]) -> list[str]:
    """Return Floodmark's arguments: the given ones, or a translated old line. Raises UsageError for any other line."""
    if _is_floodmarks_own(given):
        return list(given)
    steps = tuple(" ".join(step.split()) for step in given[0].split("&&"))
    if len(given) > 1 or steps not in KNOWN:
        raise _refusal(given)
    return ["run", "--layout", "moj-landing", *KNOWN[steps]]


def with_bucket(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the same variables, with a destination given as a bare bucket and prefix written as a URL.

    The old extractor sends to S3 only. So a destination that means a folder is a mistake: raises ConfigError.
    """
    place = environ.get(_DESTINATION, "")
    if "://" not in place and _BARE_BUCKET.fullmatch(place):
        return {**environ, _DESTINATION: f"s3://{place}"}
    if place and bucket_of(place) is None and place_problem(place) is None:
        hint = f'Write {_DESTINATION}=s3://bucket/prefix. For a folder, write args: "run" instead.'
        raise ConfigError(
            "the old extractor's command is refused", on=_DESTINATION, why="it names a folder, and no bucket", hint=hint
        )
    return environ


def trusts_the_server(environ: Mapping[str, str]) -> bool:
    """Return true if the old line connects as it always did: no TLS setting is given, and the host is not RDS."""
    said = any(environ.get(name) for name in ("PGSSLMODE", "PGSERVICE", "FLOODMARK_SOURCE"))
    return not said and not environ.get("PGHOST", "").endswith(_RDS)


def _is_floodmarks_own(given: Sequence[str]) -> bool:
    """Return true if these are arguments for Floodmark's command line, right or wrong, and not a line of shell."""
    if not given:
        return True
    shell = any("&&" in text for text in given) or _SCRIPT.fullmatch(given[0])
    return not shell and (len(given) > 1 or _COMMAND.fullmatch(given[0]) is not None)


def _refusal(given: Sequence[str]) -> UsageError:
    line = " ".join(given)
    words = line.split()
    if words and words[0] in subcommands(parser()) and "&&" not in line:
        hint = 'Write each word as an argument of its own: args: "run, --state, s3://bucket/prefix".'
        return UsageError(_WHAT, why="one argument holds a whole command line", hint=hint)
    why = "it is a line of shell that Floodmark can't translate"
    return UsageError(_WHAT, why=why, hint=_equivalent(dict.fromkeys(name for _, name in _LEFT_OUT.findall(line))))


def _equivalent(names: Mapping[str, object]) -> str:
    """Return the settings that leave out the same tables. `grep -v` leaves out every name that contains the word."""
    plain = "run, --layout, moj-landing"
    if not names:
        chosen = "tables.include and tables.exclude in floodmark.yaml, or --table and --exclude, choose tables"
        return f'args: "{plain}" lands every table; {chosen}.'
    patterns = [f"*.*{name}*" for name in names]
    options = "".join(f", --exclude, '{pattern}'" for pattern in patterns)
    listed = ", ".join(f'"{pattern}"' for pattern in patterns)
    return f'Write args: "{plain}{options}", or in floodmark.yaml tables: {{exclude: [{listed}]}}.'


def _end_with_sigterm() -> None:
    """Install a SIGTERM handler in process 1, which ignores signals without one. Other processes end by default."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
