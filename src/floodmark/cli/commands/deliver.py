"""`floodmark deliver`, and the deliveries that follow a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from floodmark.cli.interruptible import run_interruptible
from floodmark.cli.landed import excluded_tables, included_tables
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.failure import report
from floodmark.cli.output.figures import count
from floodmark.cli.output.grid import Column, draw, wrap
from floodmark.cli.output.log_events import finished_line, table_line
from floodmark.cli.output.logs import Log
from floodmark.cli.output.render import folded_line
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.tally import Tally
from floodmark.cli.settings import state_settings
from floodmark.config import DeliverySettings, Settings
from floodmark.config.deliveries import require_deliverable, require_name, to_url
from floodmark.deliver.job import SENDERS, Delivered, Result, open_target
from floodmark.deliver.job import deliver as deliver_tables
from floodmark.engine.opening import open_engine
from floodmark.errors import EXIT_OK, ConfigError, FloodmarkError, Stopped, StorageError, VerificationFailed
from floodmark.escaping import printable
from floodmark.events import Observer, StepStarted
from floodmark.model import TableName
from floodmark.reader.reader import Snapshot
from floodmark.reader.reader import open as open_landed
from floodmark.stop import Stop, stopped_leaving
from floodmark.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

_LEFT = "The next delivery sends what is missing. It repeats a table that was being sent, under the same keys."


class Done(Struct, frozen=True):
    """A delivery and its result."""

    settings: DeliverySettings
    result: Result


class DeliveredView(Struct, frozen=True, kw_only=True):
    """A table of a delivery. `status` is delivered, unchanged, failed or gone. `keys` are the delivered objects."""

    schema: str
    name: str
    status: str
    rows: int | None
    keys: tuple[str, ...]
    error: str | None


class DeliveryView(Struct, frozen=True, kw_only=True):
    """One delivery to one place."""

    name: str
    url: str
    run_id: str
    tables: tuple[DeliveredView, ...]


class DeliverDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark deliver`. A delivery that could not continue is not in the list."""

    deliveries: tuple[DeliveryView, ...] = ()


_TABLE = (
    Column("table"),
    Column("status"),
    Column("rows", right=True, rank=1),
    Column("objects", right=True, rank=2),
    Column("why", sentence=True),
)


def deliver(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Deliver what changed to the place that the options or the configuration name."""
    settings = state_settings(options, streams)
    chosen = _chosen_deliveries(options, settings)
    require_deliverable(replace(settings, deliver=chosen), "--to")
    with prints_if_no_state(DeliverDocument(), options, streams):
        done, broken = _deliver_all(settings, chosen, options.table, options.exclude, streams)
    if options.output == "json":
        streams.print_json(DeliverDocument(deliveries=tuple(map(_view, done))))
    else:
        for one in done:
            _show(one, options, streams)
    if broken is not None:
        raise broken
    failures = [error for one in done for error in one.result.failures]
    damaged = any(isinstance(error, VerificationFailed) for error in failures)
    return VerificationFailed.exit_code if damaged else StorageError.exit_code if failures else EXIT_OK


def after_run(
    settings: Settings, streams: CommandStreams, tell: Callable[[FloodmarkError], object] = lambda error: None
) -> int:
    """Make the configured deliveries after a run is committed. A failure is reported and told, and the commit stays."""
    try:
        done, broken = _deliver_all(settings, settings.deliver, (), (), streams)
    except Stopped as stopped:
        raise Stopped(stopped.signal_number, f"The run is committed. {stopped.hint}") from None
    except FloodmarkError as error:
        done, broken = [], error
    if broken is not None:
        report(_failed(broken), streams)
        tell(_failed(broken))
    for failure in (failure for one in done for failure in one.result.failures):
        tell(_failed(failure))
    return StorageError.exit_code if broken or any(one.result.failures for one in done) else EXIT_OK


def _failed(error: FloodmarkError) -> StorageError:
    hint = "The run is committed. The next run, or `floodmark deliver`, sends the missing tables."
    hint = hint if error.hint is None else f"{error.hint} {hint}"
    why = ": ".join(filter(None, (error.on, error.why)))
    return StorageError("a delivery failed", on=error.what, why=why, hint=hint)


def _deliver_all(
    settings: Settings,
    chosen: Sequence[DeliverySettings],
    patterns: Sequence[str],
    exclude: Sequence[str],
    streams: CommandStreams,
) -> tuple[list[Done], FloodmarkError | None]:
    """Make one delivery after another. A failed delivery does not stop the others.

    Returns the finished deliveries and the last error. Earlier errors are reported here.
    """
    done, errors = run_interruptible(
        streams,
        Tally(),
        lambda observer, stop: _make_deliveries(settings, chosen, patterns, exclude, streams.log, observer, stop),
        lambda: _LEFT,
    )
    for earlier in errors[:-1]:
        report(earlier, streams)
    return done, errors[-1] if errors else None


def _make_deliveries(
    settings: Settings,
    chosen: Sequence[DeliverySettings],
    patterns: Sequence[str],
    exclude: Sequence[str],
    log: Log,
    observer: Observer,
    stop: Stop,
) -> tuple[list[Done], list[FloodmarkError]]:
    """Make the deliveries. Return the finished ones, and the errors of the others. Raises Stopped."""
    done, errors = list[Done](), list[FloodmarkError]()
    assert settings.state_url is not None
    observer(StepStarted("reading the state"))
    reader = open_landed(settings.destination.url or None, state=settings.state_url, observer=observer)
    snapshot = reader.latest()
    log.bind(run_id=snapshot.run_id)
    only = _chosen_tables(snapshot, patterns, exclude)
    _require_deliverable(settings, snapshot, chosen)
    with open_engine(settings.engine, observer, stop) as cluster:
        engine = cluster.engine(observer, SENDERS)
        for one in chosen:
            with stopped_leaving(lambda: _LEFT):
                stop.require_not_asked()
            target = open_target(one, observer)
            cursor, tell = reader.cursor(target.name), partial(_log_table, log, target.name)
            try:
                result = deliver_tables(snapshot, target, cursor, only, tell, stop, observer, engine)
            except Stopped:
                raise
            except FloodmarkError as error:
                errors.append(error)
            else:
                done.append(Done(one, result))
                _log_end(log, result)
    return done, errors


def _require_deliverable(settings: Settings, snapshot: Snapshot, chosen: Sequence[DeliverySettings]) -> None:
    """Check the deliveries. Without a destination setting, only the manifest tells the place. Raises ConfigError."""
    found = replace(settings.destination, url=snapshot.data.url)
    require_deliverable(replace(settings, destination=found, deliver=tuple(chosen)), "the manifest")


def _chosen_tables(snapshot: Snapshot, patterns: Sequence[str], exclude: Sequence[str]) -> frozenset[TableName] | None:
    """Return the chosen tables, or None for all."""
    if not patterns and not exclude:
        return None
    excluded = excluded_tables(exclude, snapshot.manifest)
    meant = (
        included_tables(patterns, snapshot.manifest, snapshot.tables)
        if patterns
        else [one.name for one in snapshot.tables]
    )
    return frozenset(table for table in meant if not excluded(table))


def _chosen_deliveries(options: argparse.Namespace, settings: Settings) -> tuple[DeliverySettings, ...]:
    """Return the requested deliveries: a place, or deliveries from the file. Raises ConfigError if there are none."""
    if options.to is not None:
        known = [one for one in settings.deliver if one.url.rstrip("/") == options.to.rstrip("/")]
        if known and options.name in (None, known[0].name) and options.to_layout is options.to_numbers is None:
            return (known[0],)
        return (to_url(options.to, options.name, options.to_layout, options.to_numbers),)
    found = tuple(one for one in settings.deliver if options.name in (None, one.name))
    if not found:
        raise _no_delivery(options.name, [one.name for one in settings.deliver])
    for option in ("layout", "numbers"):
        if getattr(options, f"to_{option}") is not None:
            hint = f"In the file, {option} is a setting of each delivery."
            raise ConfigError(f"--{option} needs --to", hint=hint)
    return found


def _no_delivery(name: str | None, known: Sequence[str]) -> ConfigError:
    why, hint = "the configuration holds no delivery", "write deliver: [{name: …, url: …}] into floodmark.yaml."
    if name is not None:
        require_name(name)
        why += f" named {name}"
    if known:
        hint = f"use one of the names it has: {', '.join(known)}."
    return ConfigError("there is no place to deliver to", why=why, hint=f"Give --to URL, or {hint}")


def _log_table(log: Log, delivery: str, one: Delivered) -> None:
    fields = {"delivery": delivery, "table": one.table.label, "rows": one.rows, "objects": one.objects}
    log.write(table_line(one.status, fields, one.error))


def _log_end(log: Log, result: Result) -> None:
    """Log the outcome of the tables that were not sent, and of the whole delivery."""
    for one in result.tables:
        if one.status in ("unchanged", "gone"):
            _log_table(log, result.name, one)
    ends = {"delivery": result.name, "url": result.url}
    log.write(finished_line("delivery_finished", ends, [one.status for one in result.tables]))


def _show(one: Done, options: argparse.Namespace, streams: CommandStreams) -> None:
    result = one.result
    streams.out.write(_table(result.tables, options, console(streams.out, streams.environ)))
    if options.quiet:
        return
    statuses = [each.status for each in result.tables]
    parts = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(("unchanged", "delivered", *statuses))]
    line = f"{plural(len(statuses), 'table')}: {', '.join(parts)}; run {result.run_id} to {result.url}"
    streams.out.write(wrap(printable(line), console(streams.out, streams.environ)))


def _table(tables: Sequence[Delivered], options: argparse.Namespace, to: Console) -> str:
    """Return a table of what was done. Unchanged tables are one line."""
    listed = [each for each in tables if options.verbose or each.status != "unchanged"]
    listed = [each for each in listed if each.error is not None] if options.quiet else listed
    rows = [
        (
            each.table.label,
            each.status,
            count(each.rows),
            count(each.objects),
            "" if each.error is None else each.error.sentence,
        )
        for each in listed
    ]
    return (draw(_TABLE, rows, to) if rows else "") + folded_line(0 if options.quiet else len(tables) - len(listed))


def _view(one: Done) -> DeliveryView:
    tables = tuple(
        DeliveredView(
            schema=each.table.schema,
            name=each.table.name,
            status=each.status,
            rows=each.rows,
            keys=each.keys,
            error=None if each.error is None else each.error.sentence,
        )
        for each in one.result.tables
    )
    return DeliveryView(name=one.result.name, url=one.result.url, run_id=one.result.run_id, tables=tables)
