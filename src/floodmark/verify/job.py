"""Verify: objects against the manifest, their content, the manifest against the database. Writes nothing.

`entries` checks a manifest against itself, `objects` checks what it names, `source` compares it with the database.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from floodmark.backends import open_backends, open_destination, open_ledger, open_source
from floodmark.config import Settings
from floodmark.engine.base import Away, Engine, TaskStopped, WorkerWatch
from floodmark.engine.local import LocalThreads
from floodmark.errors import ConfigError, ObjectMissing, Stopped, StorageDenied
from floodmark.events import Observer, StepAdvanced, StepStarted, Warned
from floodmark.layout import LAYOUTS
from floodmark.model import ObjectEntry, TableEntry, TableName
from floodmark.objects.stored import ObjectFault
from floodmark.pipeline.extract import Extractor
from floodmark.source.selection import pick_tables
from floodmark.source.waiting import WaitsOnce
from floodmark.state.ledger import Current, Ledger, require_same_source
from floodmark.state.manifest import Manifest, unreadable
from floodmark.state.run_ids import RunSearch
from floodmark.stop import Deadline, Stop, stopped_leaving
from floodmark.storage.base import Storage
from floodmark.verify import objects
from floodmark.verify.entries import entry_problems
from floodmark.verify.objects import NamedObject
from floodmark.verify.report import Level, TableProblem, TableReport, VerifyReport, full_run
from floodmark.verify.source import ComparedTable, SourceComparison, compare_tables
from floodmark.wording import plural

__all__ = ["VerifyRequest", "full_run", "verify"]

LOOKERS, READERS = 16, 4
_THREADS = LocalThreads(READERS)
_HISTORY_TRIES = 3


class VerifyRequest(Struct, frozen=True):
    """The scope of a verification: a run (None: the current one), only tables of these patterns, and the level."""

    run: str | None = None
    only: tuple[str, ...] = ()
    deep: bool = False
    against_source: bool = False


Faults = Mapping[str, ObjectFault]


class _Checked:
    """The checks so far, for a verification that is stopped."""

    number = total = faulty = 0
    comparing = False

    def left(self) -> str:
        """Return what a stopped verification found."""
        text = "Verify only reads: nothing was changed."
        if not self.total:
            return text
        verb = "was" if self.number == 1 else "were"
        found = f"{self.faulty:,} with a fault; run it again to see all" if self.faulty else "without a fault"
        text += f" {self.number:,} of {plural(self.total, 'object')} {verb} checked, {found}."
        return f"{text} The comparison with the database did not end." if self.comparing else text


def verify(
    settings: Settings, request: VerifyRequest, observer: Observer, stop: Stop, engine: Engine = _THREADS
) -> VerifyReport | None:
    """Verify a run and return a report, or None before the first commit. `engine` reads the objects if all are read.

    Raises NoState if no run has ever begun; UsageError for a run that history does not hold; StateUnreadable if head,
    or a manifest in reach, is missing or damaged; SourceMismatch, StorageError, SourceError; Stopped.
    """
    checked = _Checked()
    with stopped_leaving(checked.left):
        return _verify(settings, request, observer, stop, engine, checked)


def _verify(
    settings: Settings,
    request: VerifyRequest,
    observer: Observer,
    stop: Stop,
    engine: Engine,
    checked: _Checked,
) -> VerifyReport | None:
    begun = time.monotonic()
    observer(StepStarted("reading manifests", unit="manifests"))
    ledger = open_ledger(settings, observer)
    if ledger is None:
        raise ConfigError("can't verify", why="runs to this landing zone keep no state")
    found = _read_manifests(ledger, request, observer, stop)
    if found is None:
        return None
    current, manifest, number = found
    entries = _chosen_entries(manifest, request.only)
    faults: Faults = {}
    if _require_verifiable(manifest, request):
        destination = open_destination(settings, manifest, observer)
        _warn_of_another_place(destination, manifest, observer)
        chosen = engine if request.deep else LocalThreads(LOOKERS)
        faults = _object_faults(destination, entries, request.deep, stop, observer, chosen, checked)
        level: Level = "content" if request.deep else "objects"
    else:
        level = "manifest"
    checked.comparing = request.against_source
    compared = _compare_source(settings, current, entries, observer, stop) if request.against_source else {}
    stop.require_not_asked()
    tables = tuple(_table_report(entry, faults, compared.get(entry.table)) for entry in entries)
    seconds = round(time.monotonic() - begun, 3)
    return VerifyReport(run_id=manifest.run_id, level=level, manifests=number, tables=tables, duration_seconds=seconds)


def _read_manifests(
    ledger: Ledger, request: VerifyRequest, observer: Observer, stop: Stop
) -> tuple[Current, Manifest, int] | None:
    """Read every manifest in reach. Return the requested one and the number of manifests.

    Raises UsageError if the requested run is not among them.
    """
    missing = ledger.url
    for _ in range(_HISTORY_TRIES):
        search = None if request.run is None else RunSearch(request.run)
        current = ledger.current()
        if current is None:
            ledger.require_begun()
            if search is not None:
                raise search.nothing()
            return None
        number = 0
        try:
            for _, manifest in ledger.reach(current):
                stop.require_not_asked()
                observer(StepAdvanced())
                number += 1
                if search is not None:
                    search.take(manifest)
                del manifest  # before the next one is read: a large one takes much memory
        except ObjectMissing as error:
            # A prune can have cut history since head was read. Head has then changed.
            missing = error.on or missing
            continue
        return current, current.manifest if search is None else search.found(), number
    raise unreadable(missing, "it is in the history of head, but it is missing")


def _chosen_entries(manifest: Manifest, only: Sequence[str]) -> list[TableEntry]:
    """Return the chosen entries. Dropped tables are also verified, because they stay in reach until history is cut."""
    default = manifest.source.default_schema
    picked = pick_tables((entry.table for entry in manifest.tables), only, default, "the manifest")
    return [entry for entry in manifest.tables if not only or entry.table in picked]


def _require_verifiable(manifest: Manifest, request: VerifyRequest) -> bool:
    """Return true if there are objects to check. Raises ConfigError if the request then has nothing to do."""
    if LAYOUTS[manifest.layout].objects_stay:  # type: ignore[index]
        return True
    if request.deep or not request.against_source:
        raise ConfigError(
            "can't verify the objects",
            on=manifest.destination,
            why=f"layout {manifest.layout}: the receiver moves each object away as soon as it arrives",
            hint="The manifests were read and are valid. To compare what was sent with the database, use "
            "--against-source without --deep.",
        )
    return False


def _warn_of_another_place(destination: Storage, manifest: Manifest, observer: Observer) -> None:
    if destination.url != manifest.destination:
        observer(
            Warned(f"the objects are read from {destination.url}, but they were written to {manifest.destination}")
        )


def _object_faults(
    destination: Storage,
    entries: Iterable[TableEntry],
    deep: bool,
    stop: Stop,
    observer: Observer,
    engine: Engine,
    checked: _Checked,
) -> Faults:
    """Return each object's fault, by key.

    Raises StorageDenied if access to all objects is denied, ConfigError for a worker that can't read them.
    """
    named = {one.key: (entry.table, one) for entry in entries for one in entry.objects}
    checked.total = len(named)
    _tell_step(named.values(), deep, observer)

    def one_object(task: NamedObject) -> ObjectFault | None:
        if stop.is_set():
            raise TaskStopped
        if not deep:
            return objects.look(destination, task[1])
        return objects.read_named(destination, task, WorkerWatch(observer, stop))

    away = Away[NamedObject](objects.read_away, destination.url, lambda task: task, stop.is_set) if deep else None
    faults: dict[str, ObjectFault] = {}
    for (_, one), fault in engine.run_tasks(one_object, named.values(), away):
        if isinstance(fault, TaskStopped):
            raise Stopped(stop.number)
        checked.number += 1
        if not deep:
            observer(StepAdvanced())
        if isinstance(fault, StorageDenied):
            refused, fault = fault, objects.denied(fault)
        elif isinstance(fault, BaseException):
            raise fault
        if fault is not None:
            if deep:
                objects.require_not_here(destination, one, fault)
            faults[one.key] = fault
            checked.faulty += 1
    if faults and len(faults) == len(named) and all(fault.code == "denied" for fault in faults.values()):
        raise refused
    return faults


def _tell_step(named: Collection[tuple[TableName, ObjectEntry]], deep: bool, observer: Observer) -> None:
    if not deep:
        observer(StepStarted("checking objects", total=len(named), unit="objects"))
        return
    sizes = dict[TableName, int]()
    for table, one in named:
        sizes[table] = sizes.get(table, 0) + one.stored_bytes
    observer(StepStarted("reading objects", sizes))


def _compare_source(
    settings: Settings, current: Current, entries: Sequence[TableEntry], observer: Observer, stop: Stop
) -> dict[TableName, ComparedTable]:
    observer(StepStarted("waiting for the server"))
    snapshot = WaitsOnce(open_source(settings).snapshot(), set(), settings.limits.lock_timeout)
    deadline = Deadline(stop)
    deadline.start(settings.limits.max_snapshot_age)
    try:
        require_same_source(current, snapshot.identity, adopt=False)
        observer(StepStarted("reading the catalog"))
        for drawback in snapshot.drawbacks:
            observer(Warned(str(drawback)))
        backends, selection = open_backends(settings, observer), settings.selection
        digest = backends.encoding.digest
        infos = {info.table: info for info in snapshot.tables(selection, digest)}
        comparison = SourceComparison(
            snapshot=snapshot,
            extractor=Extractor(snapshot, backends, observer, deadline),
            observer=observer,
            deadline=deadline,
            chunk_bytes=settings.chunk_bytes,
            redefined=lambda tables: snapshot.redefined_tables(tables, selection, digest),
        )
        return compare_tables(
            comparison, [e for e in entries if e.checksum is not None and e.status != "dropped"], infos
        )
    finally:
        snapshot.close()


def _table_report(entry: TableEntry, faults: Faults, compared: ComparedTable | None) -> TableReport:
    found = [*entry_problems(entry)]
    keys = dict.fromkeys(one.key for one in entry.objects)
    found += [TableProblem(faults[key].code, key, faults[key].detail) for key in keys if key in faults]
    found += compared.problems if compared is not None else ()
    return TableReport(
        schema=entry.schema,
        name=entry.name,
        has_snapshot=entry.checksum is not None,
        objects=len(entry.objects),
        stored_bytes=sum(one.stored_bytes for one in entry.objects),
        problems=tuple(found),
        source=compared.report if compared is not None else None,
    )
