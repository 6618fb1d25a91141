"""VerifyReport of an error: a sentence on stderr and an exit code.

FLOODMARK_DEBUG adds the stack frames, never a traceback.
"""

from __future__ import annotations

import signal
import traceback
from types import TracebackType

from floodmark.cli.output.escaping import printable
from floodmark.cli.output.streams import CommandStreams
from floodmark.errors import FloodmarkError, Stopped, exit_code_of

DEBUG = "FLOODMARK_DEBUG"


def report(error: BaseException, streams: CommandStreams) -> int:
    """Print the error and return the exit code."""
    if streams.environ.get(DEBUG):
        _print_frames(error, streams)
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(signal.SIGINT)
    if isinstance(error, FloodmarkError) and streams.log.style == "json":
        code = exit_code_of(error)
        streams.log.say("error", error.sentence, {"hint": error.hint, "exit_code": code})
        return code
    if isinstance(error, FloodmarkError):
        streams.err.line(f"floodmark: {printable(error.sentence)}")
        if error.hint is not None:
            streams.err.line(f"  {printable(error.hint)}")
        return error.code if isinstance(error, Stopped) else error.exit_code
    _report_unexpected(error, streams)
    return FloodmarkError.exit_code


def _report_unexpected(error: BaseException, streams: CommandStreams) -> None:
    """Print the class and the place, never the text: it could hold a row's value or a secret."""
    what = f"internal error: {type(error).__qualname__} in {_place(error.__traceback__)}"
    hint = f"This is a bug. Set {DEBUG}=1 to see the way there, and report it; no data is printed."
    if streams.log.style == "json":
        streams.log.say("error", what, {"hint": hint, "exit_code": FloodmarkError.exit_code})
        return
    streams.err.line(f"floodmark: {what}")
    if not streams.environ.get(DEBUG):
        streams.err.line(f"  {hint}")


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
