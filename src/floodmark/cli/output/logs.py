"""The log on stderr of long commands: key=value lines on a terminal, JSON lines elsewhere.

Machines read a log first, so each event is one line, with the same keys in both forms. No line ever holds a row's value
or a secret. structlog is loaded when the first line is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast, get_args

import msgspec
from msgspec import Struct

from floodmark.cli.output.escaping import printable, printable_json
from floodmark.errors import ConfigError, FloodmarkError
from floodmark.events import (
    ChunkAudited,
    ChunkDone,
    Event,
    ProgressFound,
    Retried,
    RunFinished,
    RunStarted,
    TableDecided,
    TableFinished,
    Warned,
)
from floodmark.model import TableEntry

Level = Literal["debug", "info", "warning", "error"]
Style = Literal["text", "json"]
FORMAT, LEVEL = "FLOODMARK_LOG_FORMAT", "FLOODMARK_LOG_LEVEL"
FORMATS = ("auto", *get_args(Style))
LEVELS: tuple[Level, ...] = get_args(Level)
_RANK: dict[str, int] = {level: rank for rank, level in enumerate(LEVELS)}
_FIRST = ("timestamp", "level", "event")
_OF_STATUS: dict[str, Level] = {"failed": "error", "dropped": "warning"}


class Line(Struct, frozen=True):
    """A log line: its level, its event, and its fields. A field that is None is left out."""

    level: Level
    event: str
    fields: dict[str, Any] = {}


class Log:
    """A log that writes lines from `level` on, each with the bound fields. Safe to use from several threads."""

    def __init__(self, write: Callable[[str], object], style: Style, level: Level) -> None:
        self._write, self.style, self.level = write, style, level
        self._bound: dict[str, Any] = {}
        self._logger: Any = None

    def to(self, write: Callable[[str], object]) -> None:
        """Write through another function from now on."""
        self._write = write
        self._logger = None

    def bind(self, **fields: str) -> None:
        """Add these fields to every line from now on."""
        self._bound |= fields
        self._logger = None

    def take(self, event: Event) -> bool:
        """Write the line for an event, if it gets one. Returns true if it did."""
        if isinstance(event, RunStarted):
            self.bind(run_id=event.run_id)
        line = line_of(event)
        if line is not None:
            self.write(line)
        return line is not None and self.heeds(line.level)

    def heeds(self, level: str) -> bool:
        return _RANK[level] >= _RANK[self.level]

    def write(self, line: Line) -> None:
        self.say(line.level, line.event, line.fields)

    def say(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        if not self.heeds(level):
            return
        if self._logger is None:
            self._logger = _logger(_Sink(self._write), self.style).bind(**self._bound)
        getattr(self._logger, level)(event, **{name: value for name, value in fields.items() if value is not None})


def chosen(options: Mapping[str, Any], environ: Mapping[str, str], terminal: bool) -> tuple[Style, Level]:
    """Return format and level, from flags and environment. Raises ConfigError.

    On a terminal, live progress shows the rest, so only warnings and errors get lines of their own.
    """
    style = options.get("log_format") or _variable(environ, FORMAT, FORMATS) or "auto"
    level = options.get("log_level") or _variable(environ, LEVEL, LEVELS) or ("warning" if terminal else "info")
    if style == "auto":
        style = "text" if terminal else "json"
    return cast(Style, style), cast(Level, level)


def line_of(event: Event) -> Line | None:
    """Return an event as a line, or None if it gets none."""
    if isinstance(event, Warned):
        return Line("warning", event.message)
    if isinstance(event, Retried):
        return Line("warning", "retry", {"what": event.what, "why": event.why, "attempt": event.attempt})
    if isinstance(event, RunStarted):
        return Line("info", "run started", _started(event))
    if isinstance(event, ProgressFound):
        return Line(
            "info", "going on from a run that did not commit", {"from_run": event.run_id, "chunks": event.chunks}
        )
    if isinstance(event, TableDecided):
        return Line("debug", "table decided", _decided(event))
    if isinstance(event, ChunkDone):
        return Line("debug", "chunk extracted", _chunk(event))
    if isinstance(event, ChunkAudited):
        words = "the same" if event.same else "not the same"
        return Line("debug" if event.same else "error", f"chunk audited: {words}", {"table": event.table.label})
    if isinstance(event, TableFinished):
        entry = event.entry
        return Line(_OF_STATUS.get(entry.status, "info"), f"table {entry.status}", _table(entry))
    if isinstance(event, RunFinished):
        return Line("warning" if event.failed else "info", "run finished", _finished(event))
    return None


def table_line(status: str, fields: Mapping[str, Any], error: FloodmarkError | None) -> Line:
    """Return the line for a table's outcome outside a run."""
    why = {} if error is None else {"why": error.sentence, "hint": error.hint}
    return Line(_OF_STATUS.get(status, "info"), f"table {status}", {**fields, **why})


def finished_line(what: str, fields: Mapping[str, Any], statuses: Sequence[str]) -> Line:
    """Return the line for the end of such work: the number of tables, in total and per status."""
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    level: Level = "warning" if "failed" in counts else "info"
    return Line(level, f"{what} finished", {**fields, "tables": len(statuses), **counts})


def _logger(sink: _Sink, style: Style) -> Any:
    structlog = _structlog()
    return structlog.wrap_logger(
        sink,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _in_order,
            _as_json if style == "json" else _as_text(structlog.processors.LogfmtRenderer(bool_as_flag=False)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        cache_logger_on_first_use=True,
    )


def _structlog() -> Any:
    """Return structlog without rich, which it would load to draw tracebacks that Floodmark never shows.

    Loading rich takes as long as the rest of structlog, and start-up time counts for a run without changes.
    """
    held_back = "rich" not in sys.modules
    if held_back:
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: PLC0415 - by need: not every command writes a line
    finally:
        if held_back:
            del sys.modules["rich"]
    return structlog


class _Sink:
    """The last step of structlog: one method per level."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.debug = self.info = self.warning = self.error = write


def _in_order(logger: object, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {**{name: fields[name] for name in _FIRST}, **fields}


def _as_json(logger: object, method: str, fields: dict[str, Any]) -> str:
    return printable_json(msgspec.json.encode(fields)).decode("utf-8")


def _as_text(render: Callable[..., str]) -> Callable[..., str]:
    def rendered(logger: object, method: str, fields: dict[str, Any]) -> str:
        return printable(render(logger, method, fields))

    return rendered


def _variable(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = environ.get(name)
    if value and value not in allowed:
        raise ConfigError(
            "the log can't be set up",
            on=name,
            why="it is none of the values it can have",
            hint=f"Use one of {', '.join(allowed)}.",
        )
    return value or None


def _started(event: RunStarted) -> dict[str, Any]:
    return {
        "source": event.source,
        "destination": event.destination,
        "database": event.database or None,
        "as_of": event.point.taken_at,
        "snapshot": event.attempt,
    }


def _decided(event: TableDecided) -> dict[str, Any]:
    return {
        "table": event.table.label,
        "reason": event.reason.code,
        "why": event.reason.detail,
        "chunks": event.chunks,
        "to_extract": event.to_extract,
    }


def _chunk(event: ChunkDone) -> dict[str, Any]:
    return {
        "table": event.table.label,
        "rows": event.rows,
        "raw_bytes": event.raw_bytes,
        "uploaded_bytes": event.uploaded_bytes,
        "seconds": round(event.seconds, 3),
    }


def _table(entry: TableEntry) -> dict[str, Any]:
    return {
        "table": entry.table.label,
        "reason": entry.reason.code,
        "why": entry.reason.detail,
        "rows": entry.rows,
        "stored_bytes": entry.stored_bytes,
        "seconds": entry.duration_seconds,
    }


def _finished(event: RunFinished) -> dict[str, Any]:
    return {
        "tables": event.tables,
        "failed": event.failed,
        "uploaded_bytes": event.uploaded_bytes,
        "seconds": event.duration_seconds,
    }
