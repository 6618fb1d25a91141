"""The log on stderr of long commands: key=value lines on a terminal, JSON lines elsewhere.

Each event is one line, with the same keys in both forms; see `log_events`. No line ever holds a row's value or a
secret. structlog is loaded when the first line is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal, cast, get_args

import msgspec

from floodmark.cli.output.log_events import LEVELS, Level, Line, line_of
from floodmark.errors import ConfigError
from floodmark.escaping import printable, printable_json
from floodmark.events import Event, RunEnded, RunStarted

Style = Literal["text", "json"]
FORMAT, LEVEL = "FLOODMARK_LOG_FORMAT", "FLOODMARK_LOG_LEVEL"
FORMATS = ("auto", *get_args(Style))
_RANK: dict[str, int] = {level: rank for rank, level in enumerate(LEVELS)}
_SUMMARIES = frozenset({"run_finished", "load_finished", "delivery_finished", "table_dropped"})
_FIRST = ("timestamp", "level", "event")


class Log:
    """A log that writes lines from `level` on, each with the bound fields. Safe to use from several threads.

    With `brief`, it leaves out the events that sum up a command: the text on stdout says the same.
    """

    def __init__(self, write: Callable[[str], object], style: Style, level: Level, *, brief: bool = False) -> None:
        self._write, self.style, self.level, self._brief = write, style, level, brief
        self._bound: dict[str, Any] = {}
        self._logger: Any = None

    def redirect(self, write: Callable[[str], object]) -> None:
        """Write through another function from now on."""
        self._write = write
        self._logger = None

    def bind(self, **fields: str) -> None:
        """Add these fields to every line from now on."""
        self._bound |= fields
        self._logger = None

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
        if self._logger is None:
            self._logger = _logger(self._write, self.style).bind(**self._bound)
        getattr(self._logger, line.level)(line.event, **line.fields)
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


def _logger(write: Callable[[str], object], style: Style) -> Any:
    import structlog  # noqa: PLC0415 - by need: not every command writes a line

    text = structlog.processors.LogfmtRenderer(bool_as_flag=False)
    renderers = [structlog.processors.JSONRenderer(_encode)] if style == "json" else [_flatten, text, _escape]
    return structlog.wrap_logger(
        _Output(write),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _drop_missing,
            _order_keys,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        cache_logger_on_first_use=True,
    )


class _Output:
    """The last step of structlog's chain: each level's method takes a finished line."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.debug = self.info = self.warning = self.error = write


def _drop_missing(logger: object, method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _order_keys(logger: object, method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {**{name: fields[name] for name in _FIRST}, **fields}


def _flatten(logger: object, method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Write the shares of several tables as text. In JSON they are an object."""
    shares = fields.get("tables")
    if isinstance(shares, Mapping):
        fields["tables"] = ", ".join(name if share is None else f"{name} {share}%" for name, share in shares.items())
    return fields


def _escape(logger: object, method: str, line: str) -> str:
    return printable(line)


def _encode(fields: dict[str, Any], **options: object) -> str:
    return printable_json(msgspec.json.encode(fields)).decode("utf-8")


def _variable(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = environ.get(name)
    if value and value not in allowed:
        why, hint = "its value is not one of the allowed ones", f"Use one of {', '.join(allowed)}."
        raise ConfigError("the log can't be set up", on=name, why=why, hint=hint)
    return value or None
