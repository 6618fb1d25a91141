"""`floodmark deliver`, and the deliveries that follow a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from floodmark.cli import arguments
from floodmark.cli.failure import report
from floodmark.cli.logs import Log, finished_line, table_line
from floodmark.cli.output import Session, console, printable
from floodmark.cli.picking import left_out, picked
from floodmark.cli.progress import log_of
from floodmark.cli.render import count, table
from floodmark.cli.signals import StopSignals
from floodmark.config import DeliverySettings, Settings
from floodmark.config import load as load_settings
from floodmark.config.deliveries import require_deliverable, require_name, to_url
from floodmark.deliver.job import Delivered, Result, deliver, open_target
from floodmark.errors import EXIT_OK, ConfigError, FloodmarkError, Stopped, StorageError, VerificationFailed
from floodmark.events import Event
from floodmark.model import TableName
from floodmark.reader.reader import Snapshot
from floodmark.reader.reader import open as open_landed
from floodmark.wording import plural


class Done(Struct, frozen=True):
    """A delivery and its result."""

    settings: DeliverySettings
    result: Result


def command(options: argparse.Namespace, session: Session) -> int:
    """Deliver what changed to the place that the options or the configuration name."""
    settings = load_settings(arguments.flags(options), session.environ, state_only=True)
    chosen = _chosen(options, settings)
    require_deliverable(replace(settings, deliver=chosen), "--to")
    done, broken = _all(settings, chosen, options.table, options.exclude, session)
    if options.output == "json":
        session.out.write_json(msgspec.json.format(msgspec.json.encode({"deliveries": [_view(one) for one in done]})))
    else:
        for one in done:
            _show(one, session)
    if broken is not None:
        raise broken
    failures = [error for one in done for error in one.result.failures]
    damaged = any(isinstance(error, VerificationFailed) for error in failures)
    return VerificationFailed.exit_code if damaged else StorageError.exit_code if failures else EXIT_OK


def after_run(settings: Settings, session: Session) -> int:
    """Make the configured deliveries after a run is committed. A failure is reported, and the commit stays."""
    try:
        done, broken = _all(settings, settings.deliver, (), (), session)
    except Stopped:
        raise
    except FloodmarkError as error:
        done, broken = [], error
    if broken is not None:
        report(_failed(broken), session)
    return StorageError.exit_code if broken or any(one.result.failures for one in done) else EXIT_OK


def _failed(error: FloodmarkError) -> StorageError:
    hint = "The run is committed. The next one delivers what is missing; so does `floodmark deliver`."
    hint = hint if error.hint is None else f"{error.hint} {hint}"
    why = ": ".join(filter(None, (error.on, error.why)))
    return StorageError("a delivery failed", on=error.what, why=why, hint=hint)


def _all(
    settings: Settings,
    chosen: Sequence[DeliverySettings],
    patterns: Sequence[str],
    exclude: Sequence[str],
    session: Session,
) -> tuple[list[Done], FloodmarkError | None]:
    """Make one delivery after another. A failed delivery does not stop the others.

    Returns the finished deliveries and the last error. Earlier errors are reported here.
    """
    log, errors, done = log_of(session), list[FloodmarkError](), list[Done]()

    def observer(event: Event) -> None:
        log.take(event)

    assert settings.state_url is not None
    reader = open_landed(settings.destination.url or None, state=settings.state_url, observer=observer)
    snapshot = reader.latest()
    log.bind(run_id=snapshot.run_id)
    only = _only(snapshot, patterns, exclude)
    # Without a destination setting, only the manifest tells the place.
    found = replace(settings.destination, url=snapshot.data.url)
    require_deliverable(replace(settings, destination=found, deliver=tuple(chosen)), "the manifest")
    with StopSignals(session.log.style if session.log else "text") as stop:
        for one in chosen:
            target = open_target(one, observer)
            cursor = reader.cursor(target.name)
            try:
                result = deliver(snapshot, target, cursor, only, partial(_tell, log, target.name), stop.event)
            except Stopped:
                raise
            except FloodmarkError as error:
                errors.append(error)
            else:
                done.append(Done(one, result))
                _tell_end(log, result)
    for earlier in errors[:-1]:
        report(earlier, session)
    return done, errors[-1] if errors else None


def _only(snapshot: Snapshot, patterns: Sequence[str], exclude: Sequence[str]) -> frozenset[TableName] | None:
    """Return the chosen tables, or None for all."""
    if not patterns and not exclude:
        return None
    excluded = left_out(exclude, snapshot.manifest)
    meant = picked(patterns, snapshot.manifest, snapshot.tables) if patterns else [one.name for one in snapshot.tables]
    return frozenset(table for table in meant if not excluded(table))


def _chosen(options: argparse.Namespace, settings: Settings) -> tuple[DeliverySettings, ...]:
    """Return the requested deliveries: a place, or deliveries from the file. Raises ConfigError if there is none."""
    if options.to is not None:
        known = [one for one in settings.deliver if one.url.rstrip("/") == options.to.rstrip("/")]
        if known and options.name in (None, known[0].name) and options.to_layout is options.to_numbers is None:
            return (known[0],)
        return (to_url(options.to, options.name, options.to_layout, options.to_numbers),)
    found = tuple(one for one in settings.deliver if options.name in (None, one.name))
    if not found:
        raise _nowhere(options.name, [one.name for one in settings.deliver])
    for option in ("layout", "numbers"):
        if getattr(options, f"to_{option}") is not None:
            hint = f"In the file, {option} stands with its delivery."
            raise ConfigError(f"--{option} goes with --to alone", hint=hint)
    return found


def _nowhere(name: str | None, known: Sequence[str]) -> ConfigError:
    why, hint = "the configuration holds no delivery", "write deliver: [{name: …, url: …}] into floodmark.yaml."
    if name is not None:
        require_name(name)
        why += f" named {name}"
    if known:
        hint = f"use one of the names it has: {', '.join(known)}."
    return ConfigError("there is nowhere to deliver to", why=why, hint=f"Give --to URL, or {hint}")


def _tell(log: Log, delivery: str, one: Delivered) -> None:
    fields = {"delivery": delivery, "table": one.table.label, "rows": one.rows, "objects": one.objects}
    log.write(table_line(one.status, fields, one.error))


def _tell_end(log: Log, result: Result) -> None:
    """Log the outcome of the tables that were not sent, and of the whole delivery."""
    for one in result.tables:
        if one.status in ("unchanged", "gone"):
            _tell(log, result.name, one)
    ends = {"delivery": result.name, "url": result.url}
    log.write(finished_line("delivery", ends, [one.status for one in result.tables]))


def _show(one: Done, session: Session) -> None:
    result = one.result
    rows = [(each.table.label, each.status, count(each.rows), count(each.objects)) for each in result.tables]
    session.out.write(table(("table", "status", ">rows", ">objects"), rows, console(session.out, session.environ)))
    statuses = [each.status for each in result.tables]
    parts = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(("unchanged", "delivered", *statuses))]
    line = f"{plural(len(statuses), 'table')}: {', '.join(parts)}; run {result.run_id} to {result.url}"
    session.out.write(f"{printable(line)}\n")


def _view(one: Done) -> dict[str, Any]:
    tables = [
        {
            "schema": each.table.schema,
            "name": each.table.name,
            "status": each.status,
            "rows": each.rows,
            "keys": each.keys,
            "error": None if each.error is None else each.error.sentence,
        }
        for each in one.result.tables
    ]
    return {"name": one.result.name, "url": one.result.url, "run_id": one.result.run_id, "tables": tables}
