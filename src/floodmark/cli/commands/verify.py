"""`floodmark verify`: check a run's snapshot, and show its faults and the commands that fix them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from floodmark.cli.interruptible import run_interruptible
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.figures import seconds, size
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Tally
from floodmark.cli.settings import settings_of, state_settings
from floodmark.config import Settings
from floodmark.engine.opening import open_engine
from floodmark.errors import EXIT_OK, UsageError, VerificationFailed
from floodmark.escaping import printable
from floodmark.events import Observer
from floodmark.stop import Stop
from floodmark.verify import job
from floodmark.verify.report import Level, SourceReport, TableReport, VerifyReport
from floodmark.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 10
_LEVELS = {"manifest": "recorded", "objects": "found with the right size", "content": "read completely"}


class VerifyDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark verify`. `mend` are the commands that write the faulty tables again."""

    run_id: str | None = None
    level: Level | None = None
    manifests: int = 0
    tables: tuple[TableReport, ...] = ()
    duration_seconds: float = 0.0
    ok: bool = False
    mend: tuple[str, ...] = ()


def verify(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Verify a run's snapshot, and show its faults and how to fix them. Raises VerificationFailed."""
    settings = (settings_of if options.against_source else state_settings)(options, streams)
    request = job.VerifyRequest(options.run, tuple(options.table), options.deep, options.against_source)
    if options.engine is not None and not options.deep:
        raise UsageError("--engine needs --deep", hint="Only the content of objects is read by a cluster's workers.")
    with prints_if_no_state(_document(None), options, streams):
        report = run_interruptible(
            streams,
            Tally(),
            lambda observer, stop: _verified(settings, request, observer, stop),
            lambda: "Verify only reads: nothing was changed.",
        )
    if options.output == "json":
        streams.print_json(_document(report))
    elif report is not None:
        streams.out.write(_text(report, streams, options))
    if report is None:
        streams.notice_no_run()
    elif report.faulty_tables:
        raise VerificationFailed(
            "verification failed",
            on=", ".join(one.table.label for one in report.faulty_tables),
            why=plural(sum(len(one.problems) for one in report.faulty_tables), "problem"),
            hint="To write the faulty tables again: " + "; ".join(report.repair_commands),
        )
    return EXIT_OK


def _verified(settings: Settings, request: job.VerifyRequest, observer: Observer, stop: Stop) -> VerifyReport | None:
    with open_engine(settings.engine if request.deep else None, observer, stop) as cluster:
        return job.verify(settings, request, observer, stop, cluster.engine(observer, job.READERS))


def _document(report: VerifyReport | None) -> VerifyDocument:
    if report is None:
        return VerifyDocument()
    fields = msgspec.structs.asdict(report)
    return VerifyDocument(**fields, ok=not report.faulty_tables, mend=report.repair_commands)


def _text(report: VerifyReport, streams: CommandStreams, options: argparse.Namespace) -> str:
    """Return the tables, what is wrong with them, and one line that sums up. Tables without a problem are one line."""
    listed = report.tables if options.verbose else report.faulty_tables
    text = _table(listed, console(streams.out, streams.environ)) if listed else ""
    for one in report.faulty_tables:
        for problem in one.problems[:_SHOWN]:
            text += printable(f"{one.table.label}: {problem.code}: {problem.detail}") + "\n"
            text += f"  {printable(problem.key)}\n" if problem.key is not None else ""
        if len(one.problems) > _SHOWN:
            text += f"{printable(one.table.label)}: and {len(one.problems) - _SHOWN:,} more; --output json has all\n"
    number = sum(one.objects for one in report.tables)
    what = f"{plural(number, 'object')} of {plural(len(report.tables), 'table')} {_LEVELS[report.level]}"
    history = f"{plural(report.manifests, 'manifest')} in history"
    wrong = f"{len(report.faulty_tables)} wrong"
    if options.quiet:
        return text
    source = _source_total([one.source for one in report.tables if one.source is not None])
    parts = (f"run {report.run_id}: {what}", history, *source, wrong, seconds(report.duration_seconds))
    return text + wrap("; ".join(parts), console(streams.out, streams.environ))


def _source_total(found: Sequence[SourceReport]) -> tuple[str, ...]:
    """Return the comparison with the source in one text, summed up over the tables."""
    if not found:
        return ()
    same, changed, unread = (sum(getattr(one, name) for one in found) for name in ("same", "changed", "unread"))
    return (f"source: {plural(same, 'chunk')} the same, {changed:,} changed since, {unread:,} unread",)


def _table(listed: Sequence[TableReport], to: Console) -> str:
    columns = [
        Column("table"),
        Column("objects", right=True, rank=2),
        Column("size", right=True, rank=1),
        Column("result"),
    ]
    rows = [[one.table.label, str(one.objects), size(one.stored_bytes), _result(one)] for one in listed]
    if any(one.source is not None for one in listed):
        columns.append(Column("against the source", sentence=True))
        for row, one in zip(rows, listed, strict=True):
            row.append("-" if one.source is None else _source_text(one.source))
    return draw(columns, rows, to)


def _result(one: TableReport) -> str:
    if one.problems:
        return f"wrong ({plural(len(one.problems), 'problem')})"
    return "ok" if one.has_snapshot else "no snapshot yet"


def _source_text(source: SourceReport) -> str:
    parts = [
        f"{number} {what}"
        for number, what in (
            (source.same, "same"),
            (source.changed, "changed since"),
            (source.wrong, "wrong"),
            (source.unread, "not read"),
        )
        if number
    ]
    why = f" ({source.why})" if source.why else ""
    return f"{', '.join(parts) or 'no chunks'}{why}"
