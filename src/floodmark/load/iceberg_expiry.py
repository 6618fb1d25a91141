"""Old snapshots of an Iceberg table: the choice of those to expire, and the deletion of files that nothing names.

A data file is deleted only if Floodmark wrote it, an expired snapshot named it, and no snapshot that is left does.
Files that no snapshot ever named, such as those of a load that was killed, are left to the maintenance that a catalog
needs anyway: a table that someone renamed can have its files in the same folder. A snapshot that was current less than
a day ago is kept, so that a running query can finish.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pyiceberg.io import FileIO  # optional extra
from pyiceberg.table import Table  # optional extra
from pyiceberg.table.metadata import TableMetadata  # optional extra
from pyiceberg.table.snapshots import Snapshot  # optional extra

from floodmark.load.iceberg_files import is_loaded_file

# The time for which a superseded snapshot is kept.
_KEPT = timedelta(days=1)


def expire(table: Table, keep: int) -> None:
    """Keep the newest snapshots of the table's history, and delete files that are named by none of those left.

    Raises the errors of PyIceberg. Snapshots with a branch or a tag stay, and so do those of other branches.
    """
    old = expired_snapshots(table.metadata, keep, datetime.now(UTC))
    if not old:
        return
    released = {path for snapshot in old for path in _files(snapshot, table.io)}
    table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in old]).commit()
    snapshots = table.refresh().metadata.snapshots
    _delete(table.io, released, {_last(path) for snapshot in snapshots for path in _files(snapshot, table.io)})


def expired_snapshots(metadata: TableMetadata, keep: int, now: datetime) -> list[Snapshot]:
    """Return the snapshots to expire, newest first: the current one's ancestors, except the newest `keep` of all."""
    line: list[Snapshot] = []
    current = metadata.current_snapshot()
    while current is not None:
        line.append(current)
        parent = current.parent_snapshot_id
        current = None if parent is None else metadata.snapshot_by_id(parent)
    named = {reference.snapshot_id for reference in metadata.refs.values()}
    oldest = (now - _KEPT).timestamp() * 1000
    superseded = {one.snapshot_id: later.timestamp_ms for later, one in pairwise(line)}
    return [one for one in line[keep:] if superseded[one.snapshot_id] <= oldest and one.snapshot_id not in named]


def _files(snapshot: Snapshot, io: FileIO) -> Iterable[str]:
    """Yield a snapshot's manifest list, its manifests, and the files in them."""
    yield snapshot.manifest_list
    for manifest in snapshot.manifests(io):
        yield manifest.manifest_path
        for entry in manifest.fetch_manifest_entry(io):
            yield entry.data_file.file_path


def _delete(io: FileIO, paths: Iterable[str], kept: Collection[str]) -> None:
    """Delete loads' data files, manifests and manifest lists, except those with the names in `kept`.

    Their names are unique. A path can be spelled in two ways, such as with s3:// and s3a://.
    """
    for path in sorted(paths):
        if _last(path) not in kept and (path.endswith(".avro") or is_loaded_file(path)):
            with suppress(FileNotFoundError):
                io.delete(path)


def _last(path: str) -> str:
    return path.rpartition("/")[2]
