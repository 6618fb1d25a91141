"""Old snapshots of an Iceberg table: the choice of those to expire, and the deletion of files that nothing names.

A data file is deleted only if Floodmark wrote it and no snapshot that is left names it. Everything else, such as the
metadata of commits that were killed, is left to the maintenance that a catalog needs anyway. A snapshot that was
current less than a day ago is kept, so that a running query can finish.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pyiceberg.io import FileIO  # optional extra
from pyiceberg.io.pyarrow import PyArrowFileIO  # optional extra
from pyiceberg.table import Table  # optional extra
from pyiceberg.table.metadata import TableMetadata  # optional extra
from pyiceberg.table.snapshots import Snapshot  # optional extra

from floodmark.load.iceberg_files import begun

# The time for which a superseded snapshot is kept. A file of a load that began earlier, and that no snapshot names, is
# a dead load's.
_KEPT = timedelta(days=1)


def expire(table: Table, keep: int) -> None:
    """Keep the newest snapshots of the table's history, and delete files that are named by none of those left.

    Raises the errors of PyIceberg. Snapshots with a branch or a tag stay, and so do those of other branches. If the
    table's property `gc.enabled` is false, its files belong to others too, and nothing is done.
    """
    if table.metadata.properties.get("gc.enabled", "true").lower() == "false":
        return
    old = expired_snapshots(table.metadata, keep, datetime.now(UTC))
    released = {path for snapshot in old for path in _files(snapshot, table.io)}
    if old:
        table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in old]).commit()
        table = table.refresh()
    left = {path for snapshot in table.metadata.snapshots for path in _files(snapshot, table.io)}
    _delete(table.io, released | _dead(table), {_last(path) for path in left})


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


def _dead(table: Table) -> set[str]:
    """Return the data files below the table's location whose load began before the time that files are kept for."""
    io, location = table.io, table.location().rstrip("/")
    if not isinstance(io, PyArrowFileIO):
        return set()
    from pyarrow.fs import FileSelector  # noqa: PLC0415 - optional extra

    scheme, netloc, path = io.parse_location(f"{location}/data", io.properties)
    store = io.fs_by_scheme(scheme, netloc)
    before = datetime.now(UTC) - _KEPT
    found = store.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    names = (f"{location}/data{one.path.removeprefix(path)}" for one in found)
    return {name for name in names if (moment := begun(name)) is not None and moment <= before}


def _delete(io: FileIO, paths: Iterable[str], kept: Collection[str]) -> None:
    """Delete loads' data files, manifests and manifest lists, except those with the names in `kept`.

    Their names are unique. A path can be spelled in two ways, such as with s3:// and s3a://.
    """
    for path in sorted(paths):
        if _last(path) not in kept and (path.endswith(".avro") or begun(path) is not None):
            with suppress(FileNotFoundError):
                io.delete(path)


def _last(path: str) -> str:
    return path.rpartition("/")[2]
