"""Two runs worked at once and the other committed first: what the manifest looks like when ours comes on top. Pure.

Table by table, so that a rerun of one table and the daily run both keep what they did.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from floodmark.model import Point, TableEntry, TableName
from floodmark.state.manifest import Manifest

Mine = Callable[[TableName], bool]


def rebase(ours: Manifest, theirs: Manifest, parent: str, attempted: Mine) -> Manifest:
    """Our manifest as the successor of theirs, whose key is `parent`. `attempted` says which tables we tried.

    - A table we did not try is as they left it; ours was only carried over from what both started from.
    - A failed attempt of ours says nothing that their snapshot does not say better.
    - Within one lineage the later snapshot of the source wins: it saw all that the earlier one saw.
    - Across lineages "later" means nothing; what is committed stays.
    - An entry of ours that names an object neither run's own manifest would keep alive must not win: what their
      manifest no longer names, prune may already be deleting.

    The result shows more than one moment, so it is not `consistent`.
    """
    named = {entry.key for table in theirs.tables for entry in table.objects}
    entries = {entry.table: entry for entry in theirs.tables if entry.status != "dropped"}
    for entry in ours.tables:
        if not attempted(entry.table):
            continue
        other = entries.get(entry.table)
        if entry.status == "dropped":
            if other is not None and _later(ours.source.snapshot, theirs.source.snapshot):
                entries[entry.table] = replace(entry, objects=other.objects)
        elif _wins(entry, other, ours, theirs) and _names_only(entry, ours, named):
            entries[entry.table] = entry
    tables = tuple(entries[name] for name in sorted(entries))
    return replace(ours, parent=parent, consistent=False, tables=tables)


def _wins(entry: TableEntry, other: TableEntry | None, ours: Manifest, theirs: Manifest) -> bool:
    if other is None:
        return True
    if entry.status == "failed":
        return False
    if other.checksum is None:
        return True
    return _later(_point(entry, ours), _point(other, theirs))


def _point(entry: TableEntry, manifest: Manifest) -> Point:
    """When the source was seen to hold these rows: the watermark's own point, or the run's."""
    return entry.watermark.point if entry.watermark is not None else manifest.source.snapshot


def _later(ours: Point, theirs: Point) -> bool:
    if ours.lineage != theirs.lineage:
        return False
    if ours.xmax is not None and theirs.xmax is not None and ours.xmax != theirs.xmax:
        return ours.xmax > theirs.xmax
    return ours.taken_at >= theirs.taken_at


def _names_only(entry: TableEntry, ours: Manifest, named: set[str]) -> bool:
    """Whether every object is newly written by us, or one that their manifest names as well."""
    return all(one.key in named or f"extraction_timestamp={ours.timestamp}/" in one.key for one in entry.objects)
