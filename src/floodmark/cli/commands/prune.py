"""`floodmark prune`: delete old snapshots, and objects that no manifest names any more."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from floodmark.cli.interruptible import run_interruptible
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.grid import wrap
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Tally
from floodmark.cli.settings import state_settings
from floodmark.errors import EXIT_OK
from floodmark.escaping import printable
from floodmark.layout import timestamp_text
from floodmark.prune import job
from floodmark.prune.job import EraseBefore, KeepDays, KeepLast, PruneResult, RemainingObjects, Rule
from floodmark.prune.retention import KeptBy
from floodmark.verify.report import full_run
from floodmark.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 10
_WHY_KEPT: dict[KeptBy, str] = {
    "current": "it is the current one",
    "keep-days": "--keep-days keeps it",
    "keep-last": "--keep-last keeps it",
    "erase-before": "it holds no data from before the date",
    "grace": "it was current within the grace time, so a reader can still use it",
    "older": "an older snapshot that stays is reached through it",
}


class RemainsView(Struct, frozen=True, kw_only=True):
    """A table whose current objects are older than an erasure's date, and the command that writes them again."""

    schema: str
    name: str
    objects: int
    command: str


class PruneDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark prune`. docs/cli.md describes its fields."""

    dry_run: bool = False
    run_id: str | None = None
    kept: tuple[str, ...] = ()
    kept_by: dict[str, KeptBy] = {}
    cut: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    progress: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    waiting: int = 0
    unknown: tuple[str, ...] = ()
    grace_until: str | None = None
    history_lost: str | None = None
    in_reach_still: int = 0
    remains: tuple[RemainsView, ...] = ()
    data_left_to_receiver: bool = False
    unfinished: tuple[str, ...] = ()
    completions: tuple[str, ...] = ()


def prune(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Delete old snapshots, and objects that no manifest names any more."""
    settings = state_settings(options, streams)
    rule = _rule(options)
    with prints_if_no_state(_document(None), options, streams):
        done = run_interruptible(
            streams,
            Tally(),
            lambda observer, stop: job.prune(settings, rule, observer, stop, dry_run=options.dry_run),
            lambda: "The snapshots that are still in reach are whole. Prune again to delete the rest.",
        )
    if options.output == "json":
        streams.print_json(_document(done))
    elif done is not None and not options.quiet:
        streams.out.write(_text(done, rule, console(streams.out, streams.environ)))
    if done is None:
        streams.notice_no_run()
    return EXIT_OK


def _rule(options: argparse.Namespace) -> Rule:
    if options.keep_days is not None:
        return KeepDays(options.keep_days)
    if options.keep_last is not None:
        return KeepLast(options.keep_last)
    return EraseBefore(timestamp_text(options.erase_before))


def _document(done: PruneResult | None) -> PruneDocument:
    if done is None:
        return PruneDocument()
    kept_by = dict(zip(done.kept, done.kept_by, strict=True))
    remains = tuple(
        RemainsView(schema=one.schema, name=one.name, objects=one.objects, command=full_run(one.table))
        for one in done.remains
    )
    return PruneDocument(**{**msgspec.structs.asdict(done), "kept_by": kept_by, "remains": remains})


def _text(done: PruneResult, rule: Rule, to: Console) -> str:
    cut = f"{plural(len(done.cut), 'snapshot')} out of reach, {len(done.kept):,} kept"
    counts = [plural(len(done.objects), "object"), plural(len(done.manifests), "manifest")]
    counts += [plural(len(done.progress), "progress document")] if done.progress else []
    counts += [plural(len(done.completions), "completion record")] if done.completions else []
    lines = [f"{cut}; {'would delete' if done.dry_run else 'deleted'} {', '.join(counts)}"]
    lines += [f"  {run} stays: {_WHY_KEPT[why]}" for run, why in zip(done.kept, done.kept_by, strict=True)]
    if done.data_left_to_receiver:
        lines.append("the receiver owns the data: only manifests and progress are pruned")
    if done.history_lost is not None:
        lines.append(f"history is lost before {done.kept[-1]}: {done.history_lost}")
    if done.waiting:
        lines.append(
            f"{plural(done.waiting, 'more object')} that no manifest in reach names: too young, or part of a run in "
            "progress"
        )
    if done.unfinished:
        verb = "would be deleted" if done.dry_run else "deleted"
        lines.append(f"{plural(len(done.unfinished), 'temporary file')} of killed writes {verb}")
    if done.unknown:
        lines.append(f"{plural(len(done.unknown), 'key')} kept: their owner or their age is not known")
        lines += [f"  {key}" for key in done.unknown[:_SHOWN]]
    if isinstance(rule, EraseBefore):
        lines += _erasure(done, rule)
    return "".join(wrap(printable(line), to) for line in lines)


def _erasure(done: PruneResult, rule: EraseBefore) -> list[str]:
    """Return lines about the data that an erasure leaves, so that nobody takes a partial erasure for a complete one."""
    lines = [_remainder(one) for one in done.remains]
    if done.in_reach_still:
        lines.append(
            f"{plural(done.in_reach_still, 'object')} from before the date stay for readers of snapshots that were "
            f"current within the grace time: erase again when it is over, or use --grace 0"
        )
    verb = "would be" if done.dry_run else "is"
    if not (lines or done.waiting):
        lines.append(f"no data extracted before {rule.timestamp} {verb} left here")
    lines.append("in a bucket with versioning, a lifecycle rule must delete the old versions")
    return lines


def _remainder(one: RemainingObjects) -> str:
    return (
        f"{one.table.label}: {plural(one.objects, 'object')} from before the date hold current rows; write them again, "
        f"then erase again: {full_run(one.table)}"
    )
