"""Two runs worked at once and the other committed first: what the manifest looks like when ours comes on top. Pure.

Table by table, so that a rerun of one table and the daily run both keep what they did.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from floodmark.layout import LAYOUTS, timestamp_of
from floodmark.model import Point, Reason, TableEntry, TableName, same_history
from floodmark.state.manifest import Begun, Manifest

Mine = Callable[[TableName], bool]


def may_follow(ours: Manifest, theirs: Manifest, floor: str | None) -> bool:
    """Whether ours names only objects that prune can't have taken: those that theirs names, and later ones."""
    named = _named(theirs)
    return all(one.key in named or _above(one.key, floor) for entry in ours.tables for one in entry.objects)


def rebase(ours: Manifest, theirs: Manifest, parent: str, attempted: Mine, floor: str | None = None) -> Manifest:
    """Our manifest as the successor of theirs, whose key is `parent`. `attempted` says which tables we tried.
    `floor` is that of the head which names theirs.

    - A table we did not try, or that only they have, is as they left it: ours was carried over from what both
      started from, and a table that our configuration leaves out is not gone.
    - A failed attempt of ours says nothing that their snapshot does not say better.
    - Within one lineage the later snapshot of the source wins: it saw all that the earlier one saw. That goes
      for the drop of a table, too, theirs or ours: whoever looked later knows whether it is there.
    - Across lineages "later" means nothing; what is committed stays, since a reader may have it already. Where
      they have no snapshot of the table at all, ours is better than none.
    - An entry of ours may only name objects that we wrote, after the floor, or that their manifest names: what
      it no longer names, prune may be deleting. Where that speaks against ours and they do not have the table,
      the entry is `failed`, without a snapshot, so that no one misses it and the next run extracts it.
    - `dropped` stands in one manifest; theirs was it.

    The result shows more than one moment, so it is not `consistent`.
    """
    named = _named(theirs)
    before = {entry.table: entry for entry in theirs.tables}
    entries = {name: entry for name, entry in before.items() if entry.status != "dropped"}
    for entry in ours.tables:
        other = before.get(entry.table)
        if not attempted(entry.table) or (other is not None and not _beats(entry, ours, other, theirs)):
            continue
        landed = _landed(entry, entries.get(entry.table), named, floor)
        if landed is not None:
            entries[entry.table] = landed
    tables = tuple(entries[name] for name in sorted(entries))
    return replace(ours, parent=parent, consistent=False, tables=tables)


def overtaken(rebased: Manifest, theirs: Manifest) -> list[Begun]:
    """Tables of a landing zone whose receiver goes by what they sent, since that has the later timestamp, where it is
    ours that stands: the one that saw the source last need not be the one that took its timestamp last."""
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
    """The latest timestamp among a table's objects, "" where there are none."""
    return max((timestamp_of(one.key) or "" for one in entry.objects), default="")


def _beats(entry: TableEntry, ours: Manifest, other: TableEntry, theirs: Manifest) -> bool:
    if "dropped" in (entry.status, other.status):
        return _later(ours.source.snapshot, theirs.source.snapshot)
    if entry.status == "failed":
        return False
    if other.checksum is None:
        return True
    return _later(_point(entry, ours), _point(other, theirs))


def _landed(entry: TableEntry, other: TableEntry | None, named: set[str], floor: str | None) -> TableEntry | None:
    """The entry of ours in the form in which it may follow theirs, None where theirs has to stay."""
    if entry.status == "dropped":
        # What theirs held last is what is dropped: its objects, and the numbers that go with them.
        return other and replace(other, status="dropped", reason=entry.reason, watermark=None, duration_seconds=0.0)
    if _names_only(entry, named, floor):
        return entry
    return _without_snapshot(entry) if other is None else None


def _without_snapshot(entry: TableEntry) -> TableEntry:
    reason = Reason(
        "failed",
        "another run committed first, without this table, so its stored objects may not be kept; "
        "the next run extracts it anew",
    )
    return TableEntry(
        schema=entry.schema,
        name=entry.name,
        status="failed",
        reason=entry.reason if entry.status == "failed" else reason,
        duration_seconds=entry.duration_seconds,
    )


def _point(entry: TableEntry, manifest: Manifest) -> Point:
    """When the source was seen to hold these rows. Of an entry that was carried over and has no watermark
    only the time is known, and no lineage."""
    if entry.watermark is not None:
        return entry.watermark.point
    if entry.as_of in (None, manifest.source.snapshot.taken_at):
        return manifest.source.snapshot
    return Point(entry.as_of or "")


def _later(ours: Point, theirs: Point) -> bool:
    """Whether ours is surely the later of two snapshots. Times are the source's own, all in one format."""
    if not same_history(theirs.lineage, ours.lineage):
        return False
    if ours.xmin is None or ours.xmax is None or theirs.xmin is None or theirs.xmax is None:
        return ours.taken_at > theirs.taken_at
    return (ours.xmax, ours.xmin, ours.taken_at) > (theirs.xmax, theirs.xmin, theirs.taken_at)


def _named(manifest: Manifest) -> set[str]:
    return {one.key for entry in manifest.tables for one in entry.objects}


def _above(key: str, floor: str | None) -> bool:
    return floor is None or (timestamp_of(key) or "") > floor


def _names_only(entry: TableEntry, named: set[str], floor: str | None) -> bool:
    """Whether every object is newly written by us, or one that their manifest names as well.

    `origin` speaks of the run that made the entry, and a failed one keeps what an earlier run made.
    """
    mine = entry.status != "failed"
    return all(
        one.key in named or (mine and one.origin == "extracted" and _above(one.key, floor)) for one in entry.objects
    )
