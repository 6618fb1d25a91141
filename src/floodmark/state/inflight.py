"""The list of runs in flight, and the progress of each run.

Each run enters the list by compare-and-swap with a timestamp that only it has. The timestamp goes into the keys of a
run's objects, so no two runs must ever have the same. That includes a run that failed and left objects behind: the list
remembers the latest timestamp that was given away.

Each run writes its progress into its own document, and the next run reads the progress of all listed runs. A progress
saves work and proves nothing: its chunks are proven against the new snapshot like any others. So a progress that is
missing or can't be read is no error. It does not matter if its run is dead or alive (see `pipeline.resume`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from floodmark.errors import Conflict, StateUnreadable, StorageError
from floodmark.layout import HEAD, INFLIGHT, progress_key, timestamp_moment, timestamp_text
from floodmark.model import Ended
from floodmark.state.documents import Documents
from floodmark.state.manifest import Begun, Head, Inflight, Progress, Record, Working, encode, unreadable
from floodmark.wording import iso_time

# A run that has been in flight for longer is dead: no snapshot is held open that long.
FORGET_AFTER = timedelta(days=2)
# The number of runs without a commit that the record names. Each takes about 400 bytes.
MOST_UNCOMMITTED = 100

Entered = TypeVar("Entered")


def listed_runs(documents: Documents) -> tuple[Working, ...]:
    """Return the listed runs, dead or alive. Raises StateUnreadable, StorageError."""
    found = _read_with_etag(documents)
    return found[0].runs if found is not None else ()


def claim_timestamp(documents: Documents, run_id: str, now: datetime) -> Working:
    """Enter a run, with a timestamp that no other run has or had.

    The timestamp is the later of now and one second past any that head (including its floor) or the list names. Dead
    runs are removed from the list; their objects and their progress are left to prune.

    A run that claims again gets a later timestamp. Raises Conflict if other runs keep winning the swap, and
    OutcomeUnknown if the store keeps giving no answer; also StateUnreadable, StorageError.
    """

    def enter(inflight: Inflight) -> tuple[Inflight, Working]:
        working = Working(
            run_id=run_id,
            timestamp=_next_timestamp(documents, inflight, now),
            progress=progress_key(run_id),
            started_at=iso_time(now, "seconds"),
        )
        others = [run for run in inflight.runs if run.run_id != run_id and not is_dead(documents, run, now)]
        return replace(inflight, latest=working.timestamp, runs=(*others, working)), working

    return _change(documents, enter, lambda inflight, working: working in inflight.runs)


def read_inflight(documents: Documents) -> Inflight:
    """Return the current list. Raises StateUnreadable, StorageError."""
    found = _read_with_etag(documents)
    return found[0] if found is not None else Inflight()


def record_with(record: Record | UnsetType, ended: Ended) -> Record:
    """Return the record with one more run in it. Pure."""
    before = Record(last=ended) if record is UNSET else record
    return Record(
        last=ended,
        succeeded_at=ended.ended_at if ended.outcome == "success" else before.succeeded_at,
        success=before.success + (ended.outcome == "success"),
        partial=before.partial + (ended.outcome == "partial"),
        failed=before.failed + (ended.outcome == "failed"),
        stopped=before.stopped + (ended.outcome == "stopped"),
        retries=before.retries + ended.retries,
        audited_chunks=before.audited_chunks + ended.audited_chunks,
        audit_mismatches=before.audit_mismatches + ended.audit_mismatches,
        uploaded_bytes=before.uploaded_bytes + ended.uploaded_bytes,
        uncommitted=_uncommitted_with(before, ended),
    )


def _uncommitted_with(before: Record, ended: Ended) -> tuple[Ended, ...] | UnsetType:
    """Return the last runs that committed nothing, with one more run if it committed nothing either."""
    known = () if before.uncommitted is UNSET else before.uncommitted
    if ended.outcome in ("failed", "stopped"):
        known = (*known, ended)[-MOST_UNCOMMITTED:]
    return known or UNSET


def alive_and_dead(documents: Documents, now: datetime) -> tuple[list[Working], list[Working]]:
    """Return the listed runs in two groups: those that might still work, and those that are too old for that."""
    found = listed_runs(documents)
    ended = [run for run in found if is_dead(documents, run, now)]
    return [run for run in found if run not in ended], ended


def begun_tables(inflight: Inflight) -> tuple[Begun, ...]:
    """Return the tables that a landing zone's receiver might hold only in part."""
    return () if inflight.begun is UNSET else inflight.begun


def add_begun(documents: Documents, tables: Collection[Begun]) -> None:
    """Record the tables that are about to be sent to a landing zone.

    Raises Conflict, OutcomeUnknown, StateUnreadable, StorageError: then they must not be sent.
    """

    def enter(inflight: Inflight) -> tuple[Inflight, None]:
        known = begun_tables(inflight)
        return replace(inflight, begun=(*known, *(one for one in tables if one not in known))), None

    _change(documents, enter, lambda inflight, _: set(tables) <= set(begun_tables(inflight)))


def release_run(documents: Documents, run_id: str, ended: Ended | None = None, landed: Collection[Begun] = ()) -> bool:
    """Remove a run from the list, and the tables that have `landed` from the begun ones.

    The same write notes how the run ended. Return False if that failed: the run is forgotten in time.
    """

    def leave(inflight: Inflight) -> tuple[Inflight, bool]:
        record = inflight.ended if ended is None else record_with(inflight.ended, ended)
        left = tuple(one for one in begun_tables(inflight) if one not in landed)
        runs = tuple(run for run in inflight.runs if run.run_id != run_id)
        return replace(inflight, runs=runs, ended=record, begun=left or UNSET), len(runs) < len(inflight.runs)

    def left(inflight: Inflight, was_listed: bool) -> bool:
        """Return True if the write took effect, although another run may have noted its own end since then.

        Only this write removes the run from the list, unless the run is dead.
        """
        gone = all(run.run_id != run_id for run in inflight.runs)
        return gone and (was_listed or ended is None or _is_noted(inflight, ended))

    return _try_change(documents, leave, left)


def note_end(documents: Documents, ended: Ended) -> bool:
    """Note how a run ended, and leave the list as it is. Return False if that failed."""

    def tell(inflight: Inflight) -> tuple[Inflight, None]:
        return replace(inflight, ended=record_with(inflight.ended, ended)), None

    return _try_change(documents, tell, lambda inflight, _: _is_noted(inflight, ended))


def read_progress(documents: Documents, run: Working, tell: Callable[[str], None]) -> Progress | None:
    """Return what a run left, or None if it left nothing usable. Raises StorageError.

    `tell` receives a message if the data there is not a progress. Nothing is written over it.
    """
    whole = _read_part(documents, run.progress, run, tell)
    if whole is None or whole.parts is UNSET:
        return whole
    parts = [_read_part(documents, key, run, tell) for key in whole.parts]
    same = [part for part in parts if part is not None and _written_alike(part, whole)]
    return replace(whole, chunks=tuple(chunks for one in (*same, whole) for chunks in one.chunks))


def _read_part(documents: Documents, key: str, run: Working, tell: Callable[[str], None]) -> Progress | None:
    try:
        found = documents.fetch(Progress, key)
    except StateUnreadable as error:
        tell(f"the finished parts of run {run.run_id} are extracted again: {error.sentence}")
        return None
    return found[0] if found is not None and found[0].run_id == run.run_id else None


def _written_alike(part: Progress, whole: Progress) -> bool:
    """Return True if what the whole progress says of its chunks is also true of those of a part."""
    return replace(part, written_at="", timestamps=(), chunks=(), parts=UNSET) == replace(
        whole, written_at="", timestamps=(), chunks=(), parts=UNSET
    )


def write_progress(documents: Documents, progress: Progress, part: int | None = None) -> None:
    """Replace this run's earlier progress, or write a part of it: their keys are its own. Raises StorageError."""
    documents.overwrite(progress_key(progress.run_id, part), encode(progress))


def remove_progress(documents: Documents, run_id: str, parts: int = 0) -> None:
    """Remove a progress and its parts. They are no longer needed. If they can't be deleted, prune finds them later."""
    with suppress(StorageError):
        for part in (None, *range(1, parts + 1)):
            documents.delete(progress_key(run_id, part))


def _is_noted(inflight: Inflight, ended: Ended) -> bool:
    return inflight.ended is not UNSET and inflight.ended.last == ended


def _try_change(
    documents: Documents,
    change: Callable[[Inflight], tuple[Inflight, Entered]],
    done: Callable[[Inflight, Entered], bool],
) -> bool:
    """Try to make a change. Return False if it failed."""
    try:
        _change(documents, change, done)
    except (StorageError, Conflict):
        return False
    return True


def _change(
    documents: Documents,
    change: Callable[[Inflight], tuple[Inflight, Entered]],
    done: Callable[[Inflight, Entered], bool],
) -> Entered:
    """Change the list by compare-and-swap. If an answer was lost, `done` tells if the change took effect."""
    try:
        return documents.change(INFLIGHT, Inflight(), change, done)
    except StateUnreadable as error:
        if error.on != documents.at(INFLIGHT):
            raise
        raise _damaged_list(documents, error.why or "") from None


def _read_with_etag(documents: Documents) -> tuple[Inflight, str] | None:
    try:
        return documents.fetch(Inflight, INFLIGHT)
    except StateUnreadable as error:
        raise _damaged_list(documents, error.why or "") from None


def _damaged_list(documents: Documents, why: str) -> StateUnreadable:
    """Return the error for a damaged list. Unlike other documents, it can be deleted as long as no run is at work."""
    return StateUnreadable(
        "the list of runs in flight can't be read",
        on=documents.at(INFLIGHT),
        why=why,
        hint="Nothing was written over it. Restore it from the bucket's versions; or, when no run is at work, "
        "delete it: the next run begins a new one.",
    )


def _next_timestamp(documents: Documents, inflight: Inflight, now: datetime) -> str:
    head = documents.fetch(Head, HEAD)
    taken = [run.timestamp for run in inflight.runs]
    taken += [inflight.latest] if inflight.latest is not None else []
    try:
        later = [_second_after(one) for one in taken]
    except (ValueError, OverflowError):
        raise _damaged_list(documents, "it holds an invalid timestamp") from None
    try:
        later += [_second_after(one) for one in ((head[0].timestamp, head[0].floor) if head else ()) if one is not None]
    except (ValueError, OverflowError):
        raise unreadable(documents.at(HEAD), "its timestamp is invalid") from None
    return timestamp_text(max([now, *later]))


def _second_after(timestamp: str) -> datetime:
    return timestamp_moment(timestamp) + timedelta(seconds=1)


def is_dead(documents: Documents, run: Working, now: datetime) -> bool:
    """Return True if a run is dead.

    The run's start decides, not its timestamp: a clock that was ahead can put the timestamp in the future.
    """
    try:
        return datetime.fromisoformat(run.started_at) < now - FORGET_AFTER
    except (ValueError, TypeError):
        raise _damaged_list(documents, "a started_at in it is no time") from None
