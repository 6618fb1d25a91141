"""The ledger: history, the list of runs in flight, and the commit: manifest, head by compare-and-swap, rebase.

The order is never broken: data objects, then the manifest, then head. A manifest that head never names is an orphan
that no reader ever sees.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from floodmark.errors import Conflict, NoState, ObjectMissing, OutcomeUnknown, SourceMismatch
from floodmark.layout import HEAD, INFLIGHT, manifest_key
from floodmark.model import Ended, SourceIdentity, TableName
from floodmark.retrying import Sleep
from floodmark.state import inflight
from floodmark.state.documents import Documents
from floodmark.state.history import Current, History
from floodmark.state.manifest import (
    Begun,
    Head,
    Inflight,
    Manifest,
    Progress,
    Working,
    decode,
    encode,
    unreadable,
)
from floodmark.state.rebase import database_of, may_land, overtaken_tables, rebase_onto
from floodmark.storage.base import Storage

__all__ = ["Committed", "Current", "Ledger", "require_same_source"]

MAX_REBASES = 5


class Committed(Struct, frozen=True):
    """A published commit: the final manifest, and the number of rebases that it took."""

    key: str
    manifest: Manifest
    rebased: int


class Ledger(History):
    """The state of one database's runs, in one storage location. `unconditional`: see `Documents`."""

    def __init__(
        self,
        storage: Storage,
        *,
        unconditional: bool = False,
        sleep: Sleep = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(Documents(storage, unconditional=unconditional, sleep=sleep), storage.url)
        self._now = now

    def check(self) -> None:
        """Prove that the store honours conditions, unless the user accepted a store that does not."""
        self.documents.check()

    # Runs in flight

    def claim(self, run_id: str, now: datetime) -> Working:
        """Enter a run in the list of runs in flight, with a timestamp of its own: see `inflight.claim_timestamp`."""
        return inflight.claim_timestamp(self.documents, run_id, now)

    def begin(self, tables: Collection[Begun]) -> None:
        """Record the tables that are about to be sent to a landing zone: see `inflight.add_begun`."""
        inflight.add_begun(self.documents, tables)

    def release(self, run_id: str, ended: Ended | None = None, landed: Collection[Begun] = ()) -> bool:
        """Remove a run from those in flight, and landed tables from the begun ones, and note how the run ended.

        Return False if that failed: the run is forgotten in time.
        """
        return inflight.release_run(self.documents, run_id, ended, landed)

    def note(self, ended: Ended) -> bool:
        """Note the end of a run that was never in flight, or that stays in the list. Return False if that failed."""
        return inflight.note_end(self.documents, ended)

    def in_flight(self) -> Inflight:
        """Return the runs in flight, dead or alive, and the record of runs that ended.

        Raises StateUnreadable, StorageError.
        """
        return inflight.read_inflight(self.documents)

    def require_begun(self) -> None:
        """Raise NoState if no run has ever begun here. A first run that has not committed leaves its list of runs."""
        if self.documents.get(INFLIGHT) is None and self.documents.get(HEAD) is None:
            raise NoState(
                "there is no state to read",
                on=self.url,
                why=f"no {HEAD} is there",
                hint="Name the destination of `floodmark run`, or the place of its state (--state; state=… in Python).",
            )

    def no_commit(self) -> NoState:
        """Return the error of a reader that needs a commit: no run has committed yet. Raises NoState if none began."""
        self.require_begun()
        why, hint = "no run has been committed yet", "A run has begun there. Wait for its end, or see its log."
        return NoState("can't read the current manifest", on=self.url, why=why, hint=hint)

    def left_behind(self, now: datetime, tell: Callable[[str], None]) -> Iterator[tuple[Progress, Ended | None]]:
        """Yield the progress of listed runs, dead or alive, that are not too old, with the run's end if it is known.

        `tell`: see `read_progress`. Raises StateUnreadable for the list, StorageError.
        """
        listed = self.in_flight()
        for run in listed.runs:
            if not inflight.is_dead(self.documents, run, now):
                found = inflight.read_progress(self.documents, run, tell)
                if found is not None:
                    yield found, listed.known_ends.get(run.run_id)

    def save(self, finished: Progress, part: int | None = None) -> None:
        """Write what a run in flight has finished so far, or a part of it. Raises StorageError."""
        inflight.write_progress(self.documents, finished, part)

    def remove_progress(self, run_id: str, parts: int = 0) -> None:
        """Remove a run's progress, because all its objects are committed. If that fails, it is left to prune."""
        inflight.remove_progress(self.documents, run_id, parts)

    # Committing

    def commit(
        self, manifest: Manifest, base: Current | None, attempted: Callable[[TableName], bool] = lambda _: True
    ) -> Committed:
        """Publish a manifest as the successor of `base`, and rebase it if another run committed meanwhile.

        `attempted` separates the tables that this run worked on from those that it carried over. Raises Conflict if the
        manifest can't be rebased or comes too late; then nothing that a reader sees has changed. Raises OutcomeUnknown
        if the store does not reveal whether head names it; also StateUnreadable, StorageError.
        """
        ours, rebased = manifest, 0
        if base is not None and not may_land(ours, base):
            ours = self._rebased(manifest, base, attempted)
        for _ in range(2 * MAX_REBASES):
            key = manifest_key(manifest.run_id, rebased)
            data = encode(ours)
            self._publish(key, data)
            self._require_in_time(manifest)
            winner = self._swap_head(_head_of(ours, key, data, base), base)
            if winner is None:
                return Committed(key, ours, rebased)
            if base is None or winner.head.manifest != base.head.manifest or not may_land(ours, winner):
                ours, rebased = self._rebased(manifest, winner, attempted), rebased + 1
            base = winner
            if rebased > MAX_REBASES:
                break
        raise Conflict(
            "another run committed first",
            on=self.url,
            why=f"and others did again, {MAX_REBASES} times over",
            hint="Nothing of this run was published. Run it again when the others are done.",
        )

    def _rebased(self, manifest: Manifest, base: Current, attempted: Callable[[TableName], bool]) -> Manifest:
        """Return our manifest on top of base.

        Record the tables that the next run must send again before any reader sees it.
        """
        ours = rebase_onto(manifest, base, attempted)
        later = overtaken_tables(ours, base.manifest)
        if later:
            self.begin(later)
        return ours

    def _require_in_time(self, manifest: Manifest) -> None:
        """Raise Conflict if the run is too old.

        A run that slept for days can name objects that prune deleted as those of a dead run.
        """
        if self._now() - datetime.fromisoformat(manifest.started_at) > inflight.FORGET_AFTER:
            raise Conflict(
                "the run comes too late",
                on=manifest.run_id,
                why=f"it began at {manifest.started_at}, and is taken for dead since",
                hint="Nothing of it was published. Run it again.",
            )

    def _publish(self, key: str, data: bytes) -> None:
        """Put a manifest. Its key belongs to this run, so an existing object there must be our own lost try."""
        if not self.documents.replace(key, data, None).ours:
            raise unreadable(self.documents.at(key), "another manifest of the same run_id is there")

    def _swap_head(self, head: Head, base: Current | None) -> Current | None:
        """Make head name our manifest. Return None on success, else the commit that replaced `base`."""
        etag = base.etag if base is not None else None
        try:
            swap = self.documents.replace(HEAD, encode(head), etag, lambda data: self._holds(data, head.manifest, base))
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                "can't tell if the run was committed",
                on=error.on,
                why=error.why,
                hint="`floodmark history` shows the run if it was committed. It is safe to run again in either case.",
            ) from None
        if swap.ours:
            return None
        now = self.current()
        if now is None:
            raise unreadable(self.documents.at(HEAD), "it vanished while it was to be replaced")
        return now

    def _holds(self, head: bytes, key: str, base: Current | None) -> bool:
        """Return True if head names our manifest, or moved on from it: our answer was lost, and other runs followed."""
        known = base.head.manifest if base is not None else None
        named: str | None = decode(Head, head, self.documents.at(HEAD)).manifest
        while named is not None and named not in (key, known):
            try:
                named = self.manifest(named).parent
            except ObjectMissing:
                return False  # pruned: if ours was there, no reader can reach it any more
        return named == key

    def cut(self, current: Current, oldest: str | None, floor: str | None) -> bool:
        """End history with `oldest`, and raise the floor. The other fields of head stay as they are.

        Return False if head has moved on: then the caller looks again. The caller must delete nothing before this
        returned True. Raises OutcomeUnknown if the store does not reveal if head was written; also StateUnreadable,
        StorageError.
        """
        wanted = replace(current.head, oldest=oldest, floor=floor)
        if wanted == current.head:
            return True
        try:
            return self.documents.replace(HEAD, encode(wanted), current.etag).ours
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                "can't tell if history was cut",
                on=error.on,
                why=error.why,
                hint="Nothing was deleted. It is safe to run prune again.",
            ) from None


def require_same_source(current: Current, identity: SourceIdentity, *, adopt: bool) -> bool:
    """Return True if this run adopts a state of another database. Raises SourceMismatch if that is not allowed."""
    head = current.head
    same = database_of(head) == database_of(identity)
    if same or adopt:
        return not same
    raise SourceMismatch(
        "this state belongs to another database",
        on=f"{identity.dialect} database {identity.database} (system identifier {identity.system_identifier})",
        why=f"the state is of {head.dialect} database {head.database} (system identifier {head.system_identifier})",
        hint="Check --source and --state. If the database was moved or restored on purpose, run once with "
        "--adopt-source: it extracts everything again and takes over the state.",
    )


def _head_of(manifest: Manifest, key: str, data: bytes, base: Current | None) -> Head:
    return Head(
        run_id=manifest.run_id,
        manifest=key,
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        timestamp=manifest.timestamp,
        committed_at=manifest.finished_at,
        dialect=manifest.source.dialect,
        system_identifier=manifest.source.system_identifier,
        database=manifest.source.database,
        oldest=base.head.oldest if base is not None else None,
        floor=base.head.floor if base is not None else None,
    )
