"""The log on stderr of long commands: key=value lines on a terminal, JSON lines elsewhere.

Each event is one line, with the same keys in both forms; see `log_events`. No line ever holds a row's value or a
secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

import msgspec

from floodmark.cli.output.log_events import LEVELS, Level, Line, line_of
from floodmark.errors import ConfigError
from floodmark.escaping import printable, printable_json
from floodmark.events import Event, RunEnded, RunStarted
from floodmark.wording import iso_time

Style = Literal["text", "json"]
FORMAT, LEVEL = "FLOODMARK_LOG_FORMAT", "FLOODMARK_LOG_LEVEL"
FORMATS = ("auto", *get_args(Style))
_RANK: dict[str, int] = {level: rank for rank, level in enumerate(LEVELS)}
_SUMMARIES = frozenset({"run_finished", "load_finished", "delivery_finished", "table_dropped"})


class Log:
    """A log that writes lines from `level` on, each with the bound fields. Safe to use from several threads.

    With `brief`, it leaves out the events that sum up a command: the text on stdout says the same.
    """

    def __init__(self, write: Callable[[str], object], style: Style, level: Level, *, brief: bool = False) -> None:
        self._write, self.style, self.level, self._brief = write, style, level, brief
        self._bound: dict[str, Any] = {}

    def redirect(self, write: Callable[[str], object]) -> None:
        """Write through another function from now on."""
        self._write = write

    def bind(self, **fields: str) -> None:
        """Add these fields to every line from now on."""
        self._bound = {**self._bound, **fields}

    def observe(self, event: Event) -> bool:
        """Write the line of an event. Returns true if there is one and it is written at this level."""
        if isinstance(event, RunStarted):
            self.bind(run_id=event.run_id)
        elif isinstance(event, RunEnded):  # a run that was refused never started
            self.bind(run_id=event.ended.run_id)
        line = line_of(event)
        return line is not None and self.write(line)

    def write(self, line: Line) -> bool:
        """Write a line. Returns false if its level is too low, or if the log is brief and the line sums up."""
        if _RANK[line.level] < _RANK[self.level] or (self._brief and line.event in _SUMMARIES):
            return False
        given = {name: value for name, value in {**self._bound, **line.fields}.items() if value is not None}
        fields = {"timestamp": iso_time(datetime.now(UTC)), "level": line.level, "event": line.event, **given}
        self._write(_json_line(fields) if self.style == "json" else _text_line(fields))
        return True


def chosen(options: Mapping[str, Any], environ: Mapping[str, str], terminal: bool) -> tuple[Style, Level]:
    """Return format and level, from flags and environment. Raises ConfigError.

    On a terminal, live progress shows the rest, so only warnings and errors get lines of their own. With --quiet,
    nobody wants to see the rest.
    """
    usual = "warning" if terminal or options.get("quiet") else "info"
    style = options.get("log_format") or _variable(environ, FORMAT, FORMATS) or "auto"
    level = options.get("log_level") or _variable(environ, LEVEL, LEVELS) or usual
    if style == "auto":
        style = "text" if terminal else "json"
    return cast(Style, style), cast(Level, level)


def _json_line(fields: Mapping[str, Any]) -> str:
    return printable_json(msgspec.json.encode(fields)).decode("utf-8")


def _text_line(fields: Mapping[str, Any]) -> str:
    """Return fields as logfmt: key=value, with quotes if the value needs them."""
    return printable(" ".join(f"{name}={_text_value(value)}" for name, value in fields.items()))


def _text_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):  # the shares of several tables, which are an object in JSON
        value = ", ".join(name if share is None else f"{name} {share}%" for name, share in value.items())
    text = str(value)
    if not any(mark in text for mark in ' ="'):
        return text.replace("\n", "\\n")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _variable(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = environ.get(name)
    if value and value not in allowed:
        why, hint = "its value is not one of the allowed ones", f"Use one of {', '.join(allowed)}."
        raise ConfigError("the log can't be set up", on=name, why=why, hint=hint)
    return value or None
