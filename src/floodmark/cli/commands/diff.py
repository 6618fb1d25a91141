"""`floodmark diff`: show what differs between two committed runs. It reads only the state."""

from __future__ import annotations

import argparse

from floodmark.cli.landed import committed_runs, current_run, landed_ledger, landed_settings
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.render_diff import diff_text
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.differences import NoDifference, compare_manifests
from floodmark.errors import EXIT_DIFFERENT, EXIT_OK, UsageError
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Manifest
from floodmark.state.run_ids import CURRENT


def diff(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Show the differences. With --detailed-exitcode, the exit code tells if there is one."""
    ledger = landed_ledger(landed_settings(options, streams), streams.report_retry)
    with prints_if_no_state(NoDifference(), options, streams):
        old, new = _chosen_runs(ledger, options)
    difference = compare_manifests(old, new)
    if options.output == "json":
        streams.print_json(difference)
    else:
        to = console(streams.out, streams.environ)
        streams.out.write(diff_text(difference, to, verbose=options.verbose))
    return EXIT_DIFFERENT if options.detailed_exitcode and difference.is_different else EXIT_OK


def _chosen_runs(ledger: Ledger, options: argparse.Namespace) -> tuple[Manifest | None, Manifest]:
    if options.old_run is None:
        return _last_two(ledger)
    return _named(ledger, options.old_run, options.new_run or CURRENT)


def _last_two(ledger: Ledger) -> tuple[Manifest | None, Manifest]:
    """Return the current manifest's parent and the current manifest. The first run has no parent."""
    current = current_run(ledger)
    if current.manifest.parent is None:
        return None, current.manifest
    _, *before = (manifest for _, (_, manifest) in zip(range(2), ledger.reach(current), strict=False))
    if not before:
        raise UsageError(
            "the run before the current one is not known",
            on=current.manifest.run_id,
            why="prune has cut history there",
            hint="Name two runs that `floodmark history` lists.",
        )
    return before[0], current.manifest


def _named(ledger: Ledger, *names: str) -> tuple[Manifest, Manifest]:
    """Return the manifests of two runs. Raises UsageError for a run that history does not hold."""
    found = iter(committed_runs(ledger, [name for name in names if name != CURRENT]))
    old, new = (current_run(ledger).manifest if name == CURRENT else next(found) for name in names)
    return old, new
