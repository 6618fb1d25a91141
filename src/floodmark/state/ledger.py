"""The ledger: read head, commit by compare-and-swap, rebase, history, and the list of runs in flight.

Order that is never broken: data objects, then the manifest, then head. A manifest that head does not come to
name is an orphan no reader ever sees. Where the answer to a conditional write was lost, the outcome is unknown,
not failed: what lies there now is read back and compared with what we wrote.
"""

from __future__ import annotations

import hashlib
import io
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from floodmark.errors import (
    ConditionFailed,
    Conflict,
    ObjectMissing,
    OutcomeUnknown,
    SourceMismatch,
    StateUnreadable,
    StorageError,
)
from floodmark.layout import HEAD, INFLIGHT, manifest_key, progress_key, timestamp_moment, timestamp_text
from floodmark.model import SourceIdentity, TableName
from floodmark.state.manifest import Document, Head, Inflight, Manifest, Working, decode, encode
from floodmark.state.rebase import rebase
from floodmark.storage.base import Body, Condition, IfAbsent, IfMatch, Storage

MAX_REBASES = 5
MAX_CLAIMS = 20
# A run that has been in flight for longer is dead: no snapshot is held open that long.
FORGET_AFTER = timedelta(days=2)

Moved = TypeVar("Moved")


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
    """The state of one database's runs, in one storage location.

    `unconditional` accepts a store without conditional writes: what was there is then read before each write,
    which narrows the gap in which two runs can overwrite each other, and does not close it.
    """

    def __init__(
        self, storage: Storage, *, unconditional: bool = False, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._storage = storage
        self._unconditional = unconditional
        self._sleep = sleep

    @property
    def url(self) -> str:
        return self._storage.url

    def check(self) -> None:
        """Prove that the store honours conditions, unless the user accepted that it need not."""
        if not self._unconditional:
            self._storage.check()

    # Reading

    def current(self) -> Current | None:
        """What is committed, or None before the first commit. Raises StateUnreadable, StorageError."""
        found = self._fetch(Head, HEAD)
        if found is None:
            return None
        head, etag = found
        return Current(head, etag, self._named(head))

    def manifest(self, run: str) -> Manifest:
        """A manifest by its key or its run_id. Raises ObjectMissing, StateUnreadable, StorageError."""
        key = run if run.startswith("manifests/") else manifest_key(run)
        return decode(Manifest, self._storage.get(key).data, f"{self.url}/{key}")

    def history(self, limit: int) -> Iterator[Manifest]:
        """Up to `limit` committed manifests, newest first; ends where an older one was pruned."""
        current = self.current()
        manifest = current.manifest if current is not None else None
        for _ in range(limit):
            if manifest is None:
                return
            yield manifest
            try:
                manifest = self.manifest(manifest.parent) if manifest.parent is not None else None
            except ObjectMissing:
                return

    def _named(self, head: Head) -> Manifest:
        where = f"{self.url}/{head.manifest}"
        try:
            data = self._storage.get(head.manifest).data
        except ObjectMissing:
            raise _damaged(where, "head names it, and it is not there") from None
        if hashlib.sha256(data).hexdigest() != head.manifest_sha256:
            raise _damaged(where, "its SHA-256 is not the one that head gives")
        return decode(Manifest, data, where)

    def _fetch(self, kind: type[Document], key: str) -> tuple[Document, str] | None:
        try:
            found = self._storage.get(key)
        except ObjectMissing:
            return None
        return decode(kind, found.data, f"{self.url}/{key}"), found.etag

    # Runs in flight

    def claim(self, run_id: str, now: datetime) -> Working:
        """Enter a run among those in flight, with a timestamp that no other run has or had.

        A run that claims again gets a later timestamp. Raises Conflict when others keep winning the swap.
        """

        def enter(inflight: Inflight) -> tuple[Inflight, Working]:
            head = self._fetch(Head, HEAD)
            taken = [run.timestamp for run in inflight.runs] + ([head[0].timestamp] if head else [])
            moment = max([now, *(timestamp_moment(one) + timedelta(seconds=1) for one in taken)])
            working = Working(
                run_id=run_id,
                timestamp=timestamp_text(moment),
                progress=progress_key(run_id),
                started_at=now.astimezone(UTC).isoformat(timespec="seconds"),
            )
            oldest = timestamp_text(now - FORGET_AFTER)
            others = tuple(run for run in inflight.runs if run.run_id != run_id and run.timestamp >= oldest)
            return replace(inflight, runs=(*others, working)), working

        return self._swap_inflight(enter, lambda inflight, working: working in inflight.runs)

    def release(self, run_id: str) -> bool:
        """Take a run out of those in flight. False where that failed: it will be forgotten in time."""

        def leave(inflight: Inflight) -> tuple[Inflight, None]:
            return replace(inflight, runs=tuple(run for run in inflight.runs if run.run_id != run_id)), None

        try:
            self._swap_inflight(leave, lambda inflight, _: all(run.run_id != run_id for run in inflight.runs))
        except (StorageError, Conflict):
            return False
        return True

    def _swap_inflight(
        self, change: Callable[[Inflight], tuple[Inflight, Moved]], done: Callable[[Inflight, Moved], bool]
    ) -> Moved:
        for attempt in range(MAX_CLAIMS):
            found = self._fetch(Inflight, INFLIGHT)
            before, etag = found if found is not None else (Inflight(), None)
            after, moved = change(before)
            if found is not None and after == before:
                return moved
            try:
                self._put(INFLIGHT, encode(after), IfMatch(etag) if etag is not None else IfAbsent())
                return moved
            except (ConditionFailed, OutcomeUnknown):
                now = self._fetch(Inflight, INFLIGHT)
                if now is not None and done(now[0], moved):
                    return moved
            self._sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 6)))
        raise Conflict(
            "can't enter the run among those in flight", on=f"{self.url}/{INFLIGHT}", why="others kept winning"
        )

    # Committing

    def commit(
        self, manifest: Manifest, base: Current | None, attempted: Callable[[TableName], bool] = lambda _: True
    ) -> Committed:
        """Publish a manifest as the successor of `base`, rebasing it where another run committed meanwhile.

        `attempted` tells the tables this run worked on from those it carried over. Raises Conflict when it
        can't be rebased, StorageError; nothing a reader sees has changed then.
        """
        ours = manifest
        for rebased in range(MAX_REBASES + 1):
            key = manifest_key(manifest.run_id, rebased)
            self._publish(key, encode(ours))
            winner = self._swap_head(ours, key, base)
            if winner is None:
                return Committed(key, ours, rebased)
            _require_same_database(manifest, winner)
            base = winner
            ours = rebase(manifest, winner.manifest, winner.head.manifest, attempted)
        raise Conflict(
            "another run committed first",
            on=self.url,
            why=f"and others did again, {MAX_REBASES} times over",
            hint="Nothing of this run was published. Run it again when the others are done.",
        )

    def _publish(self, key: str, data: bytes) -> None:
        """Put a manifest. Its key is this run's own: what is there already must be our own lost try."""
        try:
            self._put(key, data, IfAbsent())
        except (ConditionFailed, OutcomeUnknown):
            if self._storage.get(key).data != data:
                raise _damaged(f"{self.url}/{key}", "another manifest of the same run_id is there") from None

    def _swap_head(self, manifest: Manifest, key: str, base: Current | None) -> Current | None:
        """Let head name our manifest. None when it does; else what is committed instead of `base`."""
        data = encode(_head_of(manifest, key))
        condition: Condition = IfMatch(base.etag) if base is not None else IfAbsent()
        for _ in range(MAX_CLAIMS):
            try:
                self._put(HEAD, data, condition)
                return None
            except (ConditionFailed, OutcomeUnknown) as error:
                now = self.current()
                if now is not None and now.head.run_id == manifest.run_id and now.head.manifest == key:
                    return None
                if now is not None and (base is None or now.etag != base.etag):
                    # A successor of our own commit still has it as an ancestor.
                    return None if self._is_ancestor(key, now) else now
                if isinstance(error, ConditionFailed) and now is None:
                    raise _damaged(f"{self.url}/{HEAD}", "it vanished while it was to be replaced") from None
        raise Conflict("can't tell whether the commit took effect", on=f"{self.url}/{HEAD}")

    def _is_ancestor(self, key: str, now: Current) -> bool:
        """Whether head already moved on from our commit: its answer was lost, and another run came after."""
        parent = now.manifest.parent
        while parent is not None and parent != key:
            try:
                parent = self.manifest(parent).parent
            except ObjectMissing:
                return False
        return parent == key

    def _put(self, key: str, data: bytes, condition: Condition) -> str:
        body = Body(io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())
        if not self._unconditional:
            return self._storage.put(key, body, condition)
        self._require(key, condition)
        return self._storage.put(key, body)

    def _require(self, key: str, condition: Condition) -> None:
        stat = self._storage.stat(key)
        etag = condition.etag if isinstance(condition, IfMatch) else None
        if (stat.etag if stat is not None else None) != etag:
            raise ConditionFailed("put an object on a condition", on=key, why="it is not as it was")


def require_same_source(current: Current, identity: SourceIdentity, *, adopt: bool) -> bool:
    """Whether this run adopts a state that belongs to another database. Raises SourceMismatch unless allowed."""
    head = current.head
    same = (head.dialect, head.system_identifier, head.database) == (
        identity.dialect,
        identity.system_identifier,
        identity.database,
    )
    if same or adopt:
        return not same
    raise SourceMismatch(
        "this state belongs to another database",
        on=f"{identity.dialect} database {identity.database} (system identifier {identity.system_identifier})",
        why=f"the state is of {head.dialect} database {head.database} (system identifier {head.system_identifier})",
        hint="Check --source and --state. If the database was moved or restored on purpose, run once with "
        "--adopt-source: it extracts everything anew and takes the state over.",
    )


def _head_of(manifest: Manifest, key: str) -> Head:
    return Head(
        run_id=manifest.run_id,
        manifest=key,
        manifest_sha256=hashlib.sha256(encode(manifest)).hexdigest(),
        timestamp=manifest.timestamp,
        committed_at=manifest.finished_at,
        dialect=manifest.source.dialect,
        system_identifier=manifest.source.system_identifier,
        database=manifest.source.database,
    )


def _require_same_database(ours: Manifest, winner: Current) -> None:
    mine = (ours.source.dialect, ours.source.system_identifier, ours.source.database)
    if mine != (winner.head.dialect, winner.head.system_identifier, winner.head.database):
        raise Conflict(
            "another run committed first",
            on=winner.head.run_id,
            why="and it read another database",
            hint="Two jobs use the same --state. Give each its own.",
        )


def _damaged(where: str, why: str) -> StateUnreadable:
    return StateUnreadable(
        "state can't be read",
        on=where,
        why=why,
        hint="Nothing was written over it. Restore it from the bucket's versions, or use another --state.",
    )
