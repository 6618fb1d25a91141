"""The commands that maintain landed data: verify and prune."""

from __future__ import annotations

import argparse

import msgspec

from floodmark.cli import arguments
from floodmark.cli.output import Session, console, printable
from floodmark.cli.render import seconds, size, table
from floodmark.cli.stoppable import stoppable
from floodmark.cli.tally import Tally
from floodmark.config import load
from floodmark.errors import EXIT_OK, VerificationFailed
from floodmark.layout import timestamp_text
from floodmark.prune import job as pruning
from floodmark.prune.job import EraseBefore, KeepDays, KeepLast, PruneResult, RemainingObjects, Rule
from floodmark.verify import job as verifying
from floodmark.verify.report import SourceReport, TableReport, VerifyReport, full_run
from floodmark.wording import plural

_SHOWN = 10
_LEVELS = {"manifest": "recorded", "objects": "there, of the right size", "content": "read through"}


def verify(options: argparse.Namespace, session: Session) -> int:
    """Verify a run's snapshot, and show its faults and how to fix them. Raises VerificationFailed."""
    settings = load(arguments.flags(options), session.environ, state_only=not options.against_source)
    request = verifying.VerifyRequest(options.run, tuple(options.table), options.deep, options.against_source)
    report = stoppable(
        session, Tally(), lambda observer, stop: verifying.verify(settings, request, observer, stop.event)
    )
    if options.output == "json":
        session.out.write_json(_json(_verified(report)))
    elif report is not None:
        session.out.write(_verify_text(report, session))
    if report is None:
        session.err.line("floodmark: no run has been committed yet")
    elif report.faulty_tables:
        raise VerificationFailed(
            "verification failed",
            on=", ".join(one.table.label for one in report.faulty_tables),
            why=plural(sum(len(one.problems) for one in report.faulty_tables), "problem"),
            hint="Write anew what is wrong: " + "; ".join(report.repair_commands),
        )
    return EXIT_OK


def prune(options: argparse.Namespace, session: Session) -> int:
    """Delete old snapshots, and objects that no manifest names any more."""
    settings = load(arguments.flags(options), session.environ, state_only=True)
    rule = _rule(options)
    done = stoppable(
        session,
        Tally(),
        lambda observer, stop: pruning.prune(settings, rule, observer, stop.event, dry_run=options.dry_run),
    )
    if options.output == "json":
        session.out.write_json(_json(_told(done)))
    elif done is not None:
        session.out.write(_prune_text(done, rule))
    if done is None:
        session.err.line("floodmark: no run has been committed yet")
    return EXIT_OK


def _rule(options: argparse.Namespace) -> Rule:
    if options.keep_days is not None:
        return KeepDays(options.keep_days)
    if options.keep_last is not None:
        return KeepLast(options.keep_last)
    return EraseBefore(timestamp_text(options.erase_before))


def _json(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1)


def _verified(report: VerifyReport | None) -> object:
    if report is None:
        return {"run_id": None, "ok": True, "tables": []}
    return {**msgspec.structs.asdict(report), "ok": not report.faulty_tables, "mend": report.repair_commands}


def _told(done: PruneResult | None) -> object:
    if done is None:
        return {"run_id": None}
    remains = [{**msgspec.structs.asdict(one), "command": full_run(one.table)} for one in done.remains]
    return {**msgspec.structs.asdict(done), "remains": remains}


def _verify_text(report: VerifyReport, session: Session) -> str:
    heads = ["table", ">objects", ">size", "result"]
    rows = [[one.table.label, str(one.objects), size(one.stored_bytes), _result(one)] for one in report.tables]
    if any(one.source is not None for one in report.tables):
        heads.append("against the source")
        for row, one in zip(rows, report.tables, strict=True):
            row.append("-" if one.source is None else _source_text(one.source))
    text = table(heads, rows, console(session.out, session.environ))
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
    text += f"run {report.run_id}: {what}; {history}; {wrong}; {seconds(report.duration_seconds)}\n"
    return text


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


def _prune_text(done: PruneResult, rule: Rule) -> str:
    cut = f"{plural(len(done.cut), 'snapshot')} out of reach, {len(done.kept):,} kept"
    counts = [plural(len(done.objects), "object"), plural(len(done.manifests), "manifest")]
    counts += [f"{len(done.progress):,} of progress"] if done.progress else []
    lines = [f"{cut}; {'would delete' if done.dry_run else 'deleted'} {', '.join(counts)}"]
    if done.data_left_to_receiver:
        lines.append("the data is its receiver's: only manifests and progress are pruned")
    if done.history_lost is not None:
        lines.append(f"history is lost before {done.kept[-1]}: {done.history_lost}")
    if done.waiting:
        lines.append(
            f"{plural(done.waiting, 'object')} more that nothing in reach names: younger than the grace time, or of a "
            "run at work"
        )
    if done.unfinished:
        verb = "would be swept" if done.dry_run else "swept"
        lines.append(f"{plural(len(done.unfinished), 'unfinished file')} of puts that were killed {verb}")
    if done.unknown:
        lines.append(f"{plural(len(done.unknown), 'key')} left alone: nothing tells whose they are, or how old")
        lines += [f"  {key}" for key in done.unknown[:_SHOWN]]
    if isinstance(rule, EraseBefore):
        lines += _erasure(done, rule)
    return "".join(f"{printable(line)}\n" for line in lines)


def _erasure(done: PruneResult, rule: EraseBefore) -> list[str]:
    """Return lines about the data that an erasure leaves, so that nobody takes a partial erasure for a complete one."""
    lines = [_remainder(one) for one in done.remains]
    if done.in_reach_still:
        lines.append(
            f"{plural(done.in_reach_still, 'object')} from before the date stay for readers of snapshots that were "
            f"current within the grace time: erase again when it is over, or with --grace 0"
        )
    verb = "would be" if done.dry_run else "is"
    if not (lines or done.waiting):
        lines.append(f"nothing extracted before {rule.timestamp} {verb} left here")
    lines.append("old versions of a bucket with versioning are its lifecycle rule's to remove")
    return lines


def _remainder(one: RemainingObjects) -> str:
    return (
        f"{one.table.label}: {plural(one.objects, 'object')} from before the date hold its current rows; to write them "
        f"anew, then erase again: {full_run(one.table)}"
    )
