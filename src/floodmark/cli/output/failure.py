"""The report of an error: a sentence on stderr and an exit code.

FLOODMARK_DEBUG adds the stack frames, never a traceback.
"""

from __future__ import annotations

import signal
import traceback
from types import TracebackType

from floodmark.cli.output.log_events import Line
from floodmark.cli.output.streams import CommandStreams
from floodmark.errors import FloodmarkError, RunStopped, Stopped, exit_code_of

DEBUG = "FLOODMARK_DEBUG"


def report(error: BaseException, streams: CommandStreams) -> int:
    """Print the error, or log it if the log is made of JSON lines, and return the exit code."""
    if streams.environ.get(DEBUG):
        _print_frames(error, streams)
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(getattr(error, "signal_number", signal.SIGINT))
    code = exit_code_of(error)
    if not isinstance(error, FloodmarkError):
        _report_unexpected(error, streams)
    elif streams.log.style == "json":
        streams.log.write(_line_of(error, code))
    elif isinstance(error, Stopped):
        streams.write_paragraph(" ".join(filter(None, ("Stopped.", error.hint))))
    else:
        streams.notice(error.sentence, error.hint)
    return code


def _line_of(error: FloodmarkError, code: int) -> Line:
    fields = {"error": error.sentence, "hint": error.hint, "exit_code": code}
    if isinstance(error, RunStopped):
        return Line("run_stopped", {**fields, "kept_chunks": error.kept_chunks, "chunks": error.chunks or None})
    return Line("command_stopped" if isinstance(error, Stopped) else "command_failed", fields)


def _report_unexpected(error: BaseException, streams: CommandStreams) -> None:
    """Print the class and the place, never the text: it could hold a row's value or a secret."""
    kind, place = type(error).__qualname__, _place(error.__traceback__)
    hint = f"This is a bug. Set {DEBUG}=1 to see the stack frames, and report it. No data is printed."
    if streams.log.style == "json":
        code = FloodmarkError.exit_code
        streams.log.write(Line("internal_error", {"error": kind, "place": place, "hint": hint, "exit_code": code}))
    else:
        streams.notice(f"internal error: {kind} in {place}", None if streams.environ.get(DEBUG) else hint)


def _place(trace: TracebackType | None) -> str:
    """Return `module:function` of the innermost frame in Floodmark's own code."""
    place = "an unknown place"
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] == "floodmark":
            place = f"{module}:{trace.tb_frame.f_code.co_qualname}"
        trace = trace.tb_next
    return place


def _print_frames(error: BaseException, streams: CommandStreams) -> None:
    """Print the frames of an error and of its causes: code and places, no messages."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for one in reversed(chain):
        streams.err.line(f"floodmark: debug: {type(one).__module__}.{type(one).__qualname__}")
        for text in traceback.format_list(traceback.extract_tb(one.__traceback__)):
            streams.err.write(text)
