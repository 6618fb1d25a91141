"""What a stopped run says: what is kept, and how to go on."""

from __future__ import annotations

import signal

import pytest

from fix_cli import command_streams
from floodmark.cli.output.failure import report
from floodmark.cli.output.logs import Log
from floodmark.cli.output.streams import CommandStreams
from floodmark.errors import Stopped
from floodmark.pipeline.stopped import KeptWork, stopped_run
from floodmark.stop import Stop, stopped_leaving

KEPT = KeptWork(312, 1204, earlier=5)


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (KEPT, "312 of 1,204 chunks are kept; the next run continues from them."),
        (KeptWork(1, 1204), "1 of 1,204 chunks is kept; the next run continues from it."),
        (KeptWork(7), "7 chunks are kept; the next run continues from them."),
        (KeptWork(0, 9, earlier=2), "2 chunks of an earlier run are kept; the next run continues from them."),
        (KeptWork(0, 9), "Nothing was committed, and no chunk is kept. The next run starts from the beginning."),
        (KeptWork(0, 9, resumable=False), "The next run sends the tables of this run again, each as a whole."),
    ],
    ids=["some", "one", "unplanned", "earlier", "none", "landing"],
)
def test_a_stopped_run_says_what_is_kept(work: KeptWork, text: str) -> None:
    error = stopped_run(signal.SIGINT, work)
    assert error.hint is not None and error.hint.startswith("Nothing was committed") and error.hint.endswith(text)
    assert (error.code, error.kept_chunks, error.chunks) == (130, work.kept, work.chunks)


def test_one_line_says_it() -> None:
    streams, _, err = command_streams()
    assert report(stopped_run(signal.SIGTERM, KEPT), streams) == 143
    assert err.getvalue() == (
        "Stopped. Nothing was committed. 312 of 1,204 chunks are kept; the next run continues from them.\n"
    )
    streams, _, err = command_streams()
    assert report(KeyboardInterrupt(), streams) == 130 and err.getvalue() == "Stopped.\n"


def test_the_log_has_one_event() -> None:
    streams, _, err = command_streams()
    streams = CommandStreams(streams.out, streams.err, {}, Log(streams.err.line, "json", "info"))
    report(stopped_run(signal.SIGTERM, KEPT), streams)
    report(Stopped(signal.SIGINT, "It is as it was."), streams)
    run, other = (line.partition('"event":')[2] for line in err.getvalue().splitlines())
    assert run == (
        '"run_stopped","error":"stopped: terminated","hint":"Nothing was committed. 312 of 1,204 chunks are kept; '
        'the next run continues from them.","exit_code":143,"kept_chunks":312,"chunks":1204}'
    )
    assert other == '"command_stopped","error":"stopped: interrupted","hint":"It is as it was.","exit_code":130}'


def test_work_adds_what_it_left_when_it_is_stopped() -> None:
    done = 0
    stop = Stop()
    with stopped_leaving(lambda: f"{done} done."):
        stop.require_not_asked()
    stop.ask(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, stopped_leaving(lambda: f"{done} done."):
        done = 3
        stop.require_not_asked()
    assert (stopped.value.hint, stopped.value.code) == ("3 done.", 143)
