"""The commands: each takes its options, calls the worker, renders the result, and returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import TextIO, cast

import msgspec

from floodmark.backends import open_ledger
from floodmark.cli import arguments, render, upkeep, views
from floodmark.cli.output import Session, console, printable
from floodmark.cli.stoppable import Work, stoppable
from floodmark.cli.tally import Tally
from floodmark.config import Settings, load
from floodmark.errors import EXIT_OK, EXIT_PARTIAL, EXIT_PLAN_HAS_WORK, ConfigError
from floodmark.events import Event, Retried
from floodmark.pipeline import job as runs
from floodmark.pipeline.job import PlannedTable
from floodmark.pipeline.publish import RunResult
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import encode
from floodmark.state.run_ids import find_run

Command = Callable[[argparse.Namespace, Session], int]


def run(options: argparse.Namespace, session: Session) -> int:
    """Extract what changed, publish a manifest, and show each table's outcome."""
    settings = load(arguments.flags(options), session.environ)
    if not settings.metrics.wanted:
        return _run(options, session, settings, lambda observer, stop: runs.run(settings, observer, stop.event))
    from floodmark.cli.measured import Measured  # noqa: PLC0415 - by need: most runs leave metrics to an exporter

    with Measured(settings, session) as measured:
        return _run(options, session, settings, measured.run)


def _run(options: argparse.Namespace, session: Session, settings: Settings, work: Work[RunResult]) -> int:
    tally = Tally()
    result = stoppable(session, tally, work)
    if options.output == "json":
        session.out.write_json(encode(result.manifest))
    else:
        to = console(session.out, session.environ)
        session.out.write(render.run_table(result.manifest, tally.counts(), to))
        where = _manifest_place(settings, result)
        session.out.write(render.run_line(result.manifest, result.uploaded_bytes, result.duration_seconds, where))
    failed = any(entry.status == "failed" for entry in result.manifest.tables)
    return _delivered(settings, session) or (EXIT_PARTIAL if failed else EXIT_OK)


def _delivered(settings: Settings, session: Session) -> int:
    """Make the configured deliveries. Returns 0, or the exit code of a failed delivery, which is worse than partial."""
    if not settings.deliver:
        return EXIT_OK
    from floodmark.cli import delivering  # noqa: PLC0415 - by need: few runs deliver anything

    return delivering.after_run(settings, session)


def plan(options: argparse.Namespace, session: Session) -> int:
    """Show what a run would do, and why."""
    settings = load(arguments.flags(options), session.environ)
    planned: list[PlannedTable] = stoppable(
        session, Tally(), lambda observer, stop: runs.plan(settings, observer, stop.event)
    )
    if options.output == "json":
        _write_json(session, {"tables": [views.planned(table) for table in planned]})
    else:
        session.out.write(render.plan_table(planned, console(session.out, session.environ)))
    return EXIT_PLAN_HAS_WORK if options.detailed_exitcode and any(map(views.has_work, planned)) else EXIT_OK


def status(options: argparse.Namespace, session: Session) -> int:
    """Show every table, how fresh it is, and the last decision about it."""
    current = _current(_ledger(options, session), options, session)
    if current is None:
        return EXIT_OK
    now = datetime.now(UTC)
    tables = [views.table_status(entry, now) for entry in current.manifest.tables]
    if options.output == "json":
        _write_json(session, {"head": current.head, "tables": tables})
    else:
        to = console(session.out, session.environ)
        session.out.write(render.status_table(current.head, tables, now, to))
    return EXIT_OK


def history(options: argparse.Namespace, session: Session) -> int:
    """Show the runs, newest first."""
    found = _ledger(options, session).history(options.limit)
    summaries = [views.run_summary(manifest) for manifest in islice(found, options.limit)]
    if options.output == "json":
        _write_json(session, {"runs": summaries})
    elif summaries:
        session.out.write(render.history_table(summaries, console(session.out, session.environ)))
    else:
        session.err.line("floodmark: no run has been committed yet")
    return EXIT_OK


def show(options: argparse.Namespace, session: Session) -> int:
    """Show one manifest: the current one, or a run's."""
    ledger = _ledger(options, session)
    if options.run is None:
        current = _current(ledger, options, session)
        if current is None:
            return EXIT_OK
        manifest = current.manifest
    else:
        manifest = find_run(ledger.history(), options.run)
    if options.output == "json":
        session.out.write_json(encode(manifest))
    else:
        session.out.write(render.manifest_table(manifest, console(session.out, session.environ)))
    return EXIT_OK


def consumers(options: argparse.Namespace, session: Session) -> int:
    """Load landed data elsewhere, or describe it."""
    from floodmark.cli import loading  # noqa: PLC0415 - by need: no run loads anything

    return loading.COMMANDS[options.command](options, session)


def deliver(options: argparse.Namespace, session: Session) -> int:
    """Deliver what changed to a landing zone."""
    from floodmark.cli import delivering  # noqa: PLC0415 - by need: few runs deliver anything

    return delivering.command(options, session)


def exporter(options: argparse.Namespace, session: Session) -> int:
    """Serve the state as metrics."""
    from floodmark.cli import exporter as command  # noqa: PLC0415 - by need: only this command serves anything

    return command.exporter(options, session)


def doctor(options: argparse.Namespace, session: Session) -> int:
    """Check a run's prerequisites."""
    from floodmark.cli import doctor as command  # noqa: PLC0415 - by need: no run examines anything

    return command.doctor(options, session)


def init(options: argparse.Namespace, session: Session) -> int:
    """Write a floodmark.yaml."""
    from floodmark.cli import init as command  # noqa: PLC0415 - by need: it is done once

    return command.init(options, session)


def config(options: argparse.Namespace, session: Session) -> int:
    """Run a command about the configuration file."""
    from floodmark.cli import config_commands  # noqa: PLC0415 - by need: no run prints a schema

    return config_commands.COMMANDS[options.config_command](options, session)


def demo(options: argparse.Namespace, session: Session) -> int:
    """Play three days of a service's database."""
    from floodmark.demo import story  # noqa: PLC0415 - by need: no run starts a server

    return story.main(options.directory, cast(TextIO, session.out))  # file-like enough for printing


def _ledger(options: argparse.Namespace, session: Session) -> Ledger:
    """Return the ledger that the options name. Raises ConfigError if runs keep no state."""
    settings = load(arguments.flags(options), session.environ, state_only=True)

    def talk(event: Event) -> None:
        if isinstance(event, Retried):
            session.err.line(f"floodmark: {printable(f'retry {event.attempt}: {event.what}: {event.why}')}")

    ledger = open_ledger(settings, talk)
    if ledger is None:
        why = "runs to this landing zone are stateless: nothing is remembered"
        hint = "Give --state URL or set FLOODMARK_STATE to the place where runs keep their state."
        raise ConfigError("there is no state to read", why=why, hint=hint)
    return ledger


def _current(ledger: Ledger, options: argparse.Namespace, session: Session) -> Current | None:
    """Return the run that head names. Before the first commit, print that no run was committed and return None."""
    current = ledger.current()
    if current is None:
        if options.output == "json":
            _write_json(session, {"head": None, "tables": []})
        session.err.line("floodmark: no run has been committed yet")
    return current


def _manifest_place(settings: Settings, result: RunResult) -> str:
    if settings.state_url is None or result.manifest_key is None:
        return "no manifest: this run has no state"
    return f"manifest {settings.state_url.rstrip('/')}/{result.manifest_key}"


def _write_json(session: Session, document: object) -> None:
    session.out.write_json(msgspec.json.format(msgspec.json.encode(document), indent=1))


COMMANDS: dict[str, Command] = {
    "run": run,
    "plan": plan,
    "status": status,
    "history": history,
    "show": show,
    "load": consumers,
    "schema": consumers,
    "deliver": deliver,
    "verify": upkeep.verify,
    "prune": upkeep.prune,
    "exporter": exporter,
    "doctor": doctor,
    "init": init,
    "config": config,
    "demo": demo,
}
