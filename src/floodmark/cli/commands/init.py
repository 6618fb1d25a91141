"""`floodmark init`: asks questions, or takes flags, and writes a commented floodmark.yaml. It overwrites nothing."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from msgspec.structs import replace

from floodmark.cli import settings as cli_settings
from floodmark.cli.output.grid import wrap
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.config import Flags, Secret, load
from floodmark.config.json_schema import FILE_NAME, json_schema
from floodmark.config.load import DEFAULT_FILE, DESTINATION, LIBPQ, OLD_DESTINATION, SOURCE
from floodmark.config.template import TemplateChoices, template_text
from floodmark.config.urls import check_place, password_variable, read_source
from floodmark.doctor.database_content import DatabaseContent, inspect_database
from floodmark.errors import EXIT_OK, ConfigError, FloodmarkError, UsageError
from floodmark.escaping import printable
from floodmark.wording import plural, pretty_json

_DATABASE_QUESTION = "Database URL without a password (postgresql://, mysql://, sqlite:///file.db): "
_ANSWERS = 5  # attempts per question


def init(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Write the file that --config names, floodmark.yaml by default."""
    flags = cli_settings.flags(options)
    path = flags.config or DEFAULT_FILE
    _require_free(path)
    flags = replace(flags, config=None)
    answers = _answered(flags, streams)
    wanted = _wanted(answers, streams)
    _write(path, template_text(wanted))
    _write_schema(path.parent / FILE_NAME, streams)
    masks = sum(map(len, wanted.suggestions.values()))
    message = f"wrote {path}"
    if masks:
        message += f"; {plural(masks, 'column')} might hold personal data by name: see tables.rules in it"
    done = f"{printable(message)}. Next: floodmark doctor"
    streams.out.write(wrap(done, console(streams.out, streams.environ)))
    return EXIT_OK


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        hint = "Nothing was written. Move the file away, or write another one with --config FILE."
        raise UsageError("the configuration file already exists", on=str(path), hint=hint)


def _answered(flags: Flags, streams: CommandStreams) -> Flags:
    """Return the flags, completed with a person's answers."""
    asks = sys.stdin is not None and sys.stdin.isatty() and streams.err.isatty()
    source, destination, state = flags.source, flags.destination, flags.state
    environ = streams.environ
    if asks and source is None and not any(environ.get(name) for name in (SOURCE, *LIBPQ)):
        text = _asked(streams, _DATABASE_QUESTION, _check_source)
        source = Secret(text) if text else None
    if asks and destination is None:
        default = environ.get(DESTINATION) or environ.get(OLD_DESTINATION)
        where = f" [{printable(default)}]" if default else ""
        text = _asked(streams, f"Destination (s3://bucket/prefix, or ./folder){where}: ", _check_place)
        destination = text or default
    if asks and state is None:
        text = _asked(streams, "State (s3://bucket/prefix; empty for the default): ", _check_place)
        state = text or None
    return replace(flags, source=source, destination=destination, state=state)


def _asked(streams: CommandStreams, question: str, check: Callable[[str], object]) -> str:
    """Return an accepted or an empty answer. The question goes to stderr, because stdout is for data."""
    for _ in range(_ANSWERS):
        streams.err.write(question)
        streams.err.flush()
        line = sys.stdin.readline()
        answer = line.strip()
        if not line:
            raise UsageError("the question was not answered", hint="Give --source, --destination and --state instead.")
        try:
            if answer:
                check(answer)
        except ConfigError as error:
            streams.err.line(f"  {printable(error.why or error.what)}. {printable(error.hint or '')}")
        else:
            return answer
    raise UsageError("no answer was accepted", hint="Give --source, --destination and --state instead.")


def _check_source(text: str) -> None:
    if read_source(text, "the answer").has_password:
        hint = f"Set {password_variable(text.strip()) or SOURCE} instead."
        raise ConfigError("refused", why="a file must not hold a password", hint=hint)


def _check_place(text: str) -> None:
    check_place(text, "the answer")


def _wanted(flags: Flags, streams: CommandStreams) -> TemplateChoices:
    """Return the file's content. Raises ConfigError if it would not be accepted."""
    environ = streams.environ
    destination = flags.destination or environ.get(DESTINATION) or environ.get(OLD_DESTINATION)
    if destination is None:
        hint = "Give --destination with s3://bucket/prefix or a folder. --source and --state are optional."
        raise UsageError("no destination is given", hint=hint)
    found = _holdings(replace(flags, destination=destination), streams)
    return TemplateChoices(
        source=None if flags.source is None else flags.source.reveal().strip(),
        destination=destination,
        state=flags.state,
        layout=flags.layout,
        found=found.found,
        suggestions=found.suggestions,
    )


def _holdings(flags: Flags, streams: CommandStreams) -> DatabaseContent:
    """Return the database's content if it can be reached. The file is useful without them."""
    given = flags.source is not None or any(streams.environ.get(name) for name in (SOURCE, *LIBPQ))
    settings = load(flags if given else replace(flags, source=Secret("postgresql://localhost/none")), streams.environ)
    if not given:
        return DatabaseContent([], {})
    try:
        return inspect_database(settings)
    except FloodmarkError as error:
        streams.err.line(f"floodmark: the database could not be inspected: {printable(error.sentence)}")
        if error.hint is not None:
            streams.err.line(f"  {printable(error.hint)}")
        return DatabaseContent([], {})


def _write(path: Path, text: str) -> None:
    """Create the file, and never overwrite one that appeared meanwhile."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        _require_free(path)
        raise
    except OSError as error:
        hint = "Give --config FILE in a folder that you can write to."
        raise UsageError("the file can't be written", on=str(path), why=error.strerror, hint=hint) from None


def _write_schema(path: Path, streams: CommandStreams) -> None:
    """Write the schema that the file's first line names, unless it exists. Only editors need it: no error ends init."""
    try:
        with path.open("xb") as file:
            _fill(file, path)
    except FileExistsError:
        return
    except OSError as error:
        why = error.strerror
        streams.err.line(
            f"floodmark: {printable(str(path))} can't be written ({why}); editors need it to check the file"
        )
        streams.err.line(f"  floodmark config schema > {printable(str(path))}")


def _fill(file: IO[bytes], path: Path) -> None:
    """Write the schema, or leave no file: a partial one would be worse than none."""
    try:
        file.write(pretty_json(json_schema()))
        file.flush()
    except OSError:
        path.unlink()
        raise
