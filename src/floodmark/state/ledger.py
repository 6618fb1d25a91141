"""The ledger: read head, commit by compare-and-swap, rebase, history, and the list of runs in flight.

Order that is never broken: data objects, then the manifest, then head. A manifest that head does not come to
name is an orphan no reader ever sees. Where the answer to a conditional write was lost, the outcome is unknown,
not failed: what lies there now is read back and compared with what we wrote.
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
    """What is committed now: head, its etag for the next swap, and the manifest it names."""

    head: Head
    etag: str
    manifest: Manifest


class Committed(Struct, frozen=True):
    """What a commit published: the manifest as it stands, and how often it was rebased to get there."""

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
        """Prove that the store honours conditions, unless the user accepted that it need not."""
        self._documents.check()

    # Reading

    def current(self) -> Current | None:
        """What is committed, or None before the first commit. Raises StateUnreadable, StorageError."""
        missing = None
        for _ in range(MAX_TRIES):
            found = self._documents.fetch(Head, HEAD)
            if found is None:
                return None
            head, etag = found
            data = self._documents.get(head.manifest)
            if data is not None:
                return Current(head, etag, self._verified(head, data))
            # Head may have moved on, and prune taken what it named, between the two reads.
            if etag == missing:
                break
            missing = etag
        raise unreadable(self._documents.at(head.manifest), "head names it, and it is not there")

    def head(self) -> Head | None:
        """Head alone, without the manifest it names. Raises StateUnreadable, StorageError."""
        found = self._documents.fetch(Head, HEAD)
        return found[0] if found is not None else None

    def manifest(self, run: str) -> Manifest:
        """A manifest by its key, or a committed one by its run_id. Raises ObjectMissing, StateUnreadable,
        StorageError.

        A run_id is looked for from head on: a key made from it might be that of a manifest which was never
        committed, or only after a rebase, under another key.
        """
        if not run.startswith("manifests/"):
            return self._committed(run)
        data = self._documents.get(run)
        if data is None:
            raise ObjectMissing("read a manifest", on=self._documents.at(run), why="there is none")
        return decode(Manifest, data, self._documents.at(run))

    def history(self, limit: int | None = None) -> Iterator[Manifest]:
        """Up to `limit` committed manifests, newest first; ends where an older one was pruned."""
        current = self.current()
        if current is not None:
            with suppress(ObjectMissing):
                yield from (manifest for _, manifest in islice(self.reach(current), limit))

    def reach(self, current: Current) -> Iterator[tuple[str, Manifest]]:
        """Every manifest in reach of `current`, newest first, with its key. Raises ObjectMissing for one that
        is not there: prune has taken it meanwhile, or it is lost; StateUnreadable, StorageError."""
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
        """Enter a run among those in flight, with a timestamp of its own: see `inflight.claim`."""
        return inflight.claim(self._documents, run_id, now, self._sleep)

    def begin(self, tables: Collection[Begun]) -> None:
        """Write down what is about to be sent to a landing zone: see `inflight.begin`."""
        inflight.begin(self._documents, tables, self._sleep)

    def release(self, run_id: str, ended: Ended | None = None, landed: Collection[Begun] = ()) -> bool:
        """Take a run out of those in flight, and what has landed out of what was begun; note how it ended. False where
        that failed: it will be forgotten in time."""
        return inflight.release(self._documents, run_id, self._sleep, ended, landed)

    def note(self, ended: Ended) -> bool:
        """Note how a run ended that was never in flight, or stays among those. False where that failed."""
        return inflight.note(self._documents, ended, self._sleep)

    def in_flight(self) -> Inflight:
        """The runs in flight, dead or alive, and what is noted of those that ended. Raises StateUnreadable,
        StorageError."""
        return inflight.listed(self._documents)

    def left_behind(self, now: datetime, tell: Callable[[str], None]) -> Iterator[Progress]:
        """What listed runs that are not too old had finished, dead or alive. `tell`: see `progress.read`.
        Raises StateUnreadable for the list, StorageError."""
        for run in inflight.runs(self._documents):
            if not inflight.dead(self._documents, run, now):
                found = progress.read(self._documents, run, tell)
                if found is not None:
                    yield found

    def save(self, finished: Progress) -> None:
        """Write what a run in flight has finished so far. Raises StorageError."""
        progress.write(self._documents, finished)

    def remove_progress(self, run_id: str) -> None:
        """A run's progress is of no more use: all it put is committed. Where that fails it is left to prune."""
        progress.remove(self._documents, run_id)

    # Committing

    def commit(
        self, manifest: Manifest, base: Current | None, attempted: Callable[[TableName], bool] = lambda _: True
    ) -> Committed:
        """Publish a manifest as the successor of `base`, rebasing it where another run committed meanwhile.

        `attempted` tells the tables this run worked on from those it carried over. Raises Conflict when it
        can't be rebased or comes too late, and nothing a reader sees has changed then; OutcomeUnknown when the
        store does not let us learn whether head names it; StateUnreadable, StorageError.
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
        """Ours on top of base. What that makes the next run send again is written down before any reader sees it."""
        ours = _rebased(manifest, base, attempted)
        later = overtaken(ours, base.manifest)
        if later:
            self.begin(later)
        return ours

    def _require_in_time(self, manifest: Manifest) -> None:
        """A run that slept for days may name objects that prune took for a dead one's."""
        if self._now() - datetime.fromisoformat(manifest.started_at) > inflight.FORGET_AFTER:
            raise Conflict(
                "the run comes too late",
                on=manifest.run_id,
                why=f"it began at {manifest.started_at}, and is taken for dead since",
                hint="Nothing of it was published. Run it again.",
            )

    def _publish(self, key: str, data: bytes) -> None:
        """Put a manifest. Its key is this run's own: what is there already must be our own lost try."""
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
        """Let head name our manifest. None when it does; else what is committed instead of `base`."""
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
        """What is committed now, and whether our manifest is. Raises OutcomeUnknown when that can't be read."""
        try:
            now = self.current()
            return now, now is not None and self._holds(now, key, base)
        except StateUnreadable:
            raise
        except StorageError as error:
            raise self._unknown(error.sentence) from None

    def _holds(self, now: Current, key: str, base: Current | None) -> bool:
        """Whether head names our manifest, or moved on from it: our answer was lost, and others came after."""
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
    """Whether this run adopts a state that belongs to another database. Raises SourceMismatch unless allowed."""
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
    """Whether ours, made to follow this base, may: prune has cut nothing away from under it."""
    floor = base.head.floor
    return floor is None or (ours.timestamp > floor and may_follow(ours, base.manifest, floor))


def _rebased(manifest: Manifest, base: Current, attempted: Callable[[TableName], bool]) -> Manifest:
    """Ours on top of base. Raises Conflict for a run so slow that prune took it for dead."""
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
    """Entries of another database, or whose keys are relative to another place, can't stand in one manifest."""
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
