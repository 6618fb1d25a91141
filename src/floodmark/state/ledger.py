"""The ledger: read head, commit by compare-and-swap, rebase, history, and the list of runs in flight.

The order is never broken: data objects, then the manifest, then head. A manifest that head never names is an orphan
that no reader ever sees. If the answer to a conditional write was lost, the outcome is unknown, not failed: the ledger
reads the object back and compares it with what it wrote.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

from msgspec import Struct

from floodmark.errors import (
    ConditionFailed,
    Conflict,
    ObjectMissing,
    OutcomeUnknown,
    SourceMismatch,
    StateUnreadable,
    StorageError,
)
from floodmark.layout import HEAD, manifest_key
from floodmark.model import Ended, SourceIdentity, TableName
from floodmark.state import inflight, progress
from floodmark.state.documents import Documents
from floodmark.state.manifest import (
    Begun,
    Head,
    Inflight,
    Manifest,
    ManifestSource,
    Progress,
    Working,
    decode,
    encode,
    unreadable,
)
from floodmark.state.rebase import may_follow, overtaken, rebase
from floodmark.storage.base import IfAbsent, IfMatch, Storage

MAX_REBASES = 5
MAX_TRIES = 5


class Current(Struct, frozen=True):
    """The current commit: head, its etag for the next swap, and the manifest it names."""

    head: Head
    etag: str
    manifest: Manifest


class Committed(Struct, frozen=True):
    """A published commit: the final manifest, and the number of rebases that it took."""

    key: str
    manifest: Manifest
    rebased: int


class Ledger:
    """The state of one database's runs, in one storage location. `unconditional`: see `Documents`."""

    def __init__(
        self,
        storage: Storage,
        *,
        unconditional: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._documents = self.documents = Documents(storage, unconditional=unconditional)
        self._sleep, self._now = sleep, now
        self.url = storage.url

    def check(self) -> None:
        """Prove that the store honours conditions, unless the user accepted a store that does not."""
        self._documents.check()

    # Reading

    def current(self) -> Current | None:
        """Return the current commit, or None before the first commit. Raises StateUnreadable, StorageError."""
        missing = None
        for _ in range(MAX_TRIES):
            found = self._documents.fetch(Head, HEAD)
            if found is None:
                return None
            head, etag = found
            data = self._documents.get(head.manifest)
            if data is not None:
                return Current(head, etag, self._verified(head, data))
            # Between the two reads, head might have moved on and prune might have deleted the manifest that head named.
            if etag == missing:
                break
            missing = etag
        raise unreadable(self._documents.at(head.manifest), "head names it, and it is not there")

    def head(self) -> Head | None:
        """Return head without the manifest it names. Raises StateUnreadable, StorageError."""
        found = self._documents.fetch(Head, HEAD)
        return found[0] if found is not None else None

    def manifest(self, run: str) -> Manifest:
        """Return a manifest by its key, or a committed one by its run_id.

        Raises ObjectMissing, StateUnreadable, StorageError. The search for a run_id starts at head. A key made from the
        run_id might be the key of a manifest that was never committed, or that was committed only after a rebase, under
        another key.
        """
        if not run.startswith("manifests/"):
            return self._committed(run)
        data = self._documents.get(run)
        if data is None:
            raise ObjectMissing("read a manifest", on=self._documents.at(run), why="there is none")
        return decode(Manifest, data, self._documents.at(run))

    def history(self, limit: int | None = None) -> Iterator[Manifest]:
        """Yield up to `limit` committed manifests, newest first. History ends at a manifest whose parent was pruned."""
        current = self.current()
        if current is not None:
            with suppress(ObjectMissing):
                yield from (manifest for _, manifest in islice(self.reach(current), limit))

    def reach(self, current: Current) -> Iterator[tuple[str, Manifest]]:
        """Yield every manifest in reach of `current`, newest first, with its key.

        Raises ObjectMissing if one does not exist: prune has deleted it meanwhile, or it is lost. Also raises
        StateUnreadable, StorageError.
        """
        key, manifest = current.head.manifest, current.manifest
        yield key, manifest
        while manifest.parent is not None and key != current.head.oldest:
            key = manifest.parent
            manifest = self.manifest(key)
            yield key, manifest

    def _committed(self, run_id: str) -> Manifest:
        for manifest in self.history():
            if manifest.run_id == run_id:
                return manifest
        raise ObjectMissing("find a run", on=run_id, why=f"no manifest of it can be reached from {self.url}/{HEAD}")

    def _verified(self, head: Head, data: bytes) -> Manifest:
        where = self._documents.at(head.manifest)
        if hashlib.sha256(data).hexdigest() != head.manifest_sha256:
            raise unreadable(where, "its SHA-256 is not the one that head gives")
        return decode(Manifest, data, where)

    # Runs in flight

    def claim(self, run_id: str, now: datetime) -> Working:
        """Enter a run in the list of runs in flight, with a timestamp of its own: see `inflight.claim`."""
        return inflight.claim(self._documents, run_id, now, self._sleep)

    def begin(self, tables: Collection[Begun]) -> None:
        """Record the tables that are about to be sent to a landing zone: see `inflight.begin`."""
        inflight.begin(self._documents, tables, self._sleep)

    def release(self, run_id: str, ended: Ended | None = None, landed: Collection[Begun] = ()) -> bool:
        """Remove a run from those in flight, and landed tables from the begun ones, and note how the run ended.

        Return False if that failed: the run is forgotten in time.
        """
        return inflight.release(self._documents, run_id, self._sleep, ended, landed)

    def note(self, ended: Ended) -> bool:
        """Note the end of a run that was never in flight, or that stays in the list. Return False if that failed."""
        return inflight.note(self._documents, ended, self._sleep)

    def in_flight(self) -> Inflight:
        """Return the runs in flight, dead or alive, and the record of runs that ended.

        Raises StateUnreadable, StorageError.
        """
        return inflight.listed(self._documents)

    def left_behind(self, now: datetime, tell: Callable[[str], None]) -> Iterator[Progress]:
        """Yield the progress of listed runs, dead or alive, that are not too old. `tell`: see `progress.read`.

        Raises StateUnreadable for the list, StorageError.
        """
        for run in inflight.runs(self._documents):
            if not inflight.dead(self._documents, run, now):
                found = progress.read(self._documents, run, tell)
                if found is not None:
                    yield found

    def save(self, finished: Progress) -> None:
        """Write what a run in flight has finished so far. Raises StorageError."""
        progress.write(self._documents, finished)

    def remove_progress(self, run_id: str) -> None:
        """Remove a run's progress, because all its objects are committed. If that fails, it is left to prune."""
        progress.remove(self._documents, run_id)

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
        if base is not None and not _may_land(ours, base):
            ours = self._rebased(manifest, base, attempted)
        for _ in range(2 * MAX_REBASES):
            key = manifest_key(manifest.run_id, rebased)
            data = encode(ours)
            self._publish(key, data)
            self._require_in_time(manifest)
            winner = self._swap_head(_head_of(ours, key, data, base), base)
            if winner is None:
                return Committed(key, ours, rebased)
            if base is None or winner.head.manifest != base.head.manifest or not _may_land(ours, winner):
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
        ours = _rebased(manifest, base, attempted)
        later = overtaken(ours, base.manifest)
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
        for tries in range(MAX_TRIES):
            try:
                return self._documents.put(key, data, IfAbsent())
            except (ConditionFailed, OutcomeUnknown):
                found = self._documents.get(key)
            if found == data:
                return None
            if found is not None:
                raise unreadable(self._documents.at(key), "another manifest of the same run_id is there")
            inflight.pause(self._sleep, tries)
        raise OutcomeUnknown("can't write the manifest", on=self._documents.at(key), why="it does not come to be there")

    def _swap_head(self, head: Head, base: Current | None) -> Current | None:
        """Make head name our manifest. Return None on success, else the commit that replaced `base`."""
        data = encode(head)
        for tries in range(MAX_TRIES):
            try:
                self._documents.put(HEAD, data, IfMatch(base.etag) if base is not None else IfAbsent())
                return None
            except (ConditionFailed, OutcomeUnknown) as error:
                refused = isinstance(error, ConditionFailed)
            except StorageError as error:
                if not tries:
                    raise
                raise self._unknown(error.sentence) from None
            now, holds = self._looked_up(head.manifest, base)
            if holds or (now is not None and (base is None or now.etag != base.etag)):
                return None if holds else now
            if now is None and refused:
                raise unreadable(self._documents.at(HEAD), "it vanished while it was to be replaced")
            inflight.pause(self._sleep, tries)
        raise self._unknown("head stays as it was, and the answers do not tell why")

    def _looked_up(self, key: str, base: Current | None) -> tuple[Current | None, bool]:
        """Return the current commit, and True if it includes our manifest.

        Raises OutcomeUnknown if it can't be read.
        """
        try:
            now = self.current()
            return now, now is not None and self._holds(now, key, base)
        except StateUnreadable:
            raise
        except StorageError as error:
            raise self._unknown(error.sentence) from None

    def _holds(self, now: Current, key: str, base: Current | None) -> bool:
        """Return True if head names our manifest, or moved on from it: our answer was lost, and other runs followed."""
        known = base.head.manifest if base is not None else None
        named: str | None = now.head.manifest
        while named is not None and named not in (key, known):
            try:
                named = now.manifest.parent if named == now.head.manifest else self.manifest(named).parent
            except ObjectMissing:
                return False  # pruned: if ours was there, no reader can reach it any more
        return named == key

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            "can't tell whether the run was committed",
            on=self._documents.at(HEAD),
            why=why,
            hint="`floodmark history` shows it if it was. Running again is safe either way.",
        )


def require_same_source(current: Current, identity: SourceIdentity, *, adopt: bool) -> bool:
    """Return True if this run adopts a state of another database. Raises SourceMismatch if that is not allowed."""
    head = current.head
    same = _database(head) == _database(identity)
    if same or adopt:
        return not same
    raise SourceMismatch(
        "this state belongs to another database",
        on=f"{identity.dialect} database {identity.database} (system identifier {identity.system_identifier})",
        why=f"the state is of {head.dialect} database {head.database} (system identifier {head.system_identifier})",
        hint="Check --source and --state. If the database was moved or restored on purpose, run once with "
        "--adopt-source: it extracts everything anew and takes the state over.",
    )


def _may_land(ours: Manifest, base: Current) -> bool:
    """Return True if ours can follow this base: prune has deleted nothing that it names."""
    floor = base.head.floor
    return floor is None or (ours.timestamp > floor and may_follow(ours, base.manifest, floor))


def _rebased(manifest: Manifest, base: Current, attempted: Callable[[TableName], bool]) -> Manifest:
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


def _require_related(ours: Manifest, winner: Current) -> None:
    """Raise Conflict if one manifest can't hold the entries of both.

    They must come from the same database, and their keys must be relative to the same place.
    """
    why = None
    if _database(ours.source) != _database(winner.head):
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


def _database(one: Head | ManifestSource | SourceIdentity) -> tuple[str, str, str]:
    return one.dialect, one.system_identifier, one.database
