"""The manifest of a run whose commit came second to a concurrent run, on top of the first one's manifest. Pure.

The decision is made table by table, so that a rerun of one table and the daily run both keep their results.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET
from msgspec.structs import replace

from floodmark.errors import Conflict
from floodmark.layout import LAYOUTS, timestamp_of
from floodmark.lineage import same_history
from floodmark.model import Point, Reason, SourceIdentity, TableEntry, TableName
from floodmark.state.history import Current
from floodmark.state.manifest import Begun, Head, Manifest, ManifestSource

Mine = Callable[[TableName], bool]


def may_follow(ours: Manifest, theirs: Manifest, floor: str | None) -> bool:
    """Return True if ours names only objects that prune can't have deleted: those that theirs names, and later ones."""
    named = _named_keys(theirs)
    return all(one.key in named or _is_above(one.key, floor) for entry in ours.tables for one in entry.objects)


def rebase(ours: Manifest, theirs: Manifest, parent: str, attempted: Mine, floor: str | None = None) -> Manifest:
    """Return our manifest as the successor of theirs, whose key is `parent`. `attempted` says which tables we tried.

    `floor` is that of the head which names theirs.

    - A table that we did not try, or that only they have, stays as they left it. Ours was carried over from the common
      base, and a table that our configuration leaves out is not gone.
    - A failed attempt of ours says nothing that their snapshot does not say better.
    - Within one lineage the later snapshot of the source wins: it saw everything that the earlier one saw. The same
      holds for a dropped table, theirs or ours: the later snapshot knows if it exists.
    - Across lineages "later" means nothing. The committed entry stays, since a reader might already have it. If they
      have no snapshot of the table at all, ours is better than none.
    - An entry of ours may only name objects that we wrote, after the floor, or objects that their manifest names. Prune
      might be deleting any object that their manifest no longer names. If that rules out our entry and they do not have
      the table, the entry is `failed`, without a snapshot. So nobody overlooks it, and the next run extracts it.
    - `dropped` appears in one manifest only; theirs was that one.

    The result shows more than one moment, so it is not `consistent`.
    """
    named = _named_keys(theirs)
    before = {entry.table: entry for entry in theirs.tables}
    kept = {name: entry for name, entry in before.items() if entry.status != "dropped"}
    entries = {name: replace(entry, carried_over=True) for name, entry in kept.items()}
    for entry in ours.tables:
        other = before.get(entry.table)
        if not attempted(entry.table) or (other is not None and not _is_newer(entry, ours, other, theirs)):
            continue
        landed = _landed_entry(entry, kept.get(entry.table), named, floor)
        if landed is not None:
            entries[entry.table] = landed
    tables = tuple(entries[name] for name in sorted(entries))
    return replace(ours, parent=parent, consistent=False, tables=tables)


def may_land(ours: Manifest, base: Current) -> bool:
    """Return True if ours can follow this base: prune has deleted nothing that it names."""
    floor = base.head.floor
    return floor is None or (ours.timestamp > floor and may_follow(ours, base.manifest, floor))


def rebase_onto(manifest: Manifest, base: Current, attempted: Callable[[TableName], bool]) -> Manifest:
    """Return our manifest on top of base. Raises Conflict for a run so slow that prune treated it as dead."""
    floor = base.head.floor
    if floor is not None and manifest.timestamp <= floor:
        raise Conflict(
            "the run took longer than prune's grace time",
            on=manifest.run_id,
            why=f"what was written up to {floor} and not committed may have been deleted",
            hint="Nothing of this run was published. Run it again.",
        )
    _require_related(manifest, base)
    return rebase(manifest, base.manifest, base.head.manifest, attempted, floor)


def _require_related(ours: Manifest, winner: Current) -> None:
    """Raise Conflict if one manifest can't hold the entries of both.

    They must come from the same database, and their keys must be relative to the same place.
    """
    why = None
    if database_of(ours.source) != database_of(winner.head):
        why = "and it read another database"
    elif ours.destination != winner.manifest.destination:
        why = "and it wrote to another destination"
    if why is not None:
        raise Conflict(
            "another run committed first",
            on=winner.head.run_id,
            why=why,
            hint="Two jobs use the same --state. Give each its own.",
        )


def database_of(one: Head | ManifestSource | SourceIdentity) -> tuple[str, str, str]:
    """Return what tells one database from another."""
    return one.dialect, one.system_identifier, one.database


def overtaken_tables(rebased: Manifest, theirs: Manifest) -> list[Begun]:
    """Return the tables of a landing zone whose receiver has their data, although our entry is the committed one.

    The receiver goes by the later timestamp, and theirs is later. The run that saw the source last is not always the
    run that took its timestamp last.
    """
    if LAYOUTS[rebased.layout].objects_stay:  # type: ignore[index]
        return []
    ours = {entry.table: entry for entry in rebased.tables if entry.status in ("extracted", "unchanged")}
    return [
        Begun(schema=other.schema, name=other.name, timestamp=sent_under(other))
        for other in theirs.tables
        if (entry := ours.get(other.table)) is not None
        and entry.checksum != other.checksum
        and sent_under(entry) < sent_under(other)
    ]


def sent_under(entry: TableEntry) -> str:
    """Return the latest timestamp among a table's objects, "" if it has none."""
    return max((timestamp_of(one.key) or "" for one in entry.objects), default="")


def _is_newer(entry: TableEntry, ours: Manifest, other: TableEntry, theirs: Manifest) -> bool:
    if "dropped" in (entry.status, other.status):
        return _is_later(ours.source.snapshot, theirs.source.snapshot)
    if entry.status == "failed":
        return False
    if other.checksum is None:
        return True
    return _is_later(_point_of(entry, ours), _point_of(other, theirs))


def _landed_entry(entry: TableEntry, other: TableEntry | None, named: set[str], floor: str | None) -> TableEntry | None:
    """Return our entry in the form in which it can follow theirs, or None if theirs has to stay."""
    if entry.status == "dropped":
        # The dropped state is the last one that theirs held: its objects, and the numbers that belong to them.
        if other is None:
            return None
        gone = replace(other, status="dropped", reason=entry.reason, watermark=None, duration_seconds=0.0)
        return replace(gone, carried_over=UNSET)
    if _names_only(entry, named, floor):
        return entry
    return _without_snapshot(entry) if other is None else None


def _without_snapshot(entry: TableEntry) -> TableEntry:
    reason = Reason(
        "failed",
        "another run committed first, without this table, so its stored objects may not be kept; "
        "the next run extracts it again",
    )
    return TableEntry(
        schema=entry.schema,
        name=entry.name,
        status="failed",
        reason=entry.reason if entry.status == "failed" else reason,
        duration_seconds=entry.duration_seconds,
    )


def _point_of(entry: TableEntry, manifest: Manifest) -> Point:
    """Return the moment at which the source held these rows.

    If an entry was carried over and has no watermark, only the time is known, and no lineage.
    """
    if entry.watermark is not None:
        return entry.watermark.point
    if entry.as_of in (None, manifest.source.snapshot.taken_at):
        return manifest.source.snapshot
    return Point(entry.as_of or "")


def _is_later(ours: Point, theirs: Point) -> bool:
    """Return True if ours is certainly the later of two snapshots. Times are the source's own, all in one format."""
    if not same_history(theirs.lineage, ours.lineage):
        return False
    if ours.xmin is None or ours.xmax is None or theirs.xmin is None or theirs.xmax is None:
        return ours.taken_at > theirs.taken_at
    return (ours.xmax, ours.xmin, ours.taken_at) > (theirs.xmax, theirs.xmin, theirs.taken_at)


def _named_keys(manifest: Manifest) -> set[str]:
    return {one.key for entry in manifest.tables for one in entry.objects}


def _is_above(key: str, floor: str | None) -> bool:
    return floor is None or (timestamp_of(key) or "") > floor


def _names_only(entry: TableEntry, named: set[str], floor: str | None) -> bool:
    """Return True if every object was newly written by us, or is one that their manifest names as well.

    `origin` refers to the run that made the entry, and a failed entry keeps what an earlier run made.
    """
    mine = entry.status != "failed"
    return all(
        one.key in named or (mine and one.origin == "extracted" and _is_above(one.key, floor)) for one in entry.objects
    )
