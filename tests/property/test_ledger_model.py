"""Any number of runs that commit into one ledger, over a store that loses requests, loses answers and delivers
requests late, while others run in between every two steps: what a reader relies on holds throughout.

A whole run of another writer happens inside a storage call of the first (and a third's inside the second's), so
every interleaving of storage calls in which the inner run is not itself left hanging is played. Runs that hang
are those whose base was read long before they commit.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from datetime import UTC, datetime

from hypothesis import event, given, note, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from fix_state import entry, manifest, point, quick_ledger, stored
from floodmark.errors import ConditionFailed, Conflict, OutcomeUnknown, StorageError, StorageUnavailable
from floodmark.model import TableEntry, TableName
from floodmark.state.ledger import Committed, Current, Ledger
from floodmark.state.manifest import Head, Manifest, decode
from floodmark.storage.base import Body, Condition, Fetched, Stat
from floodmark.storage.memory import MemoryStorage

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
TABLES = ("a", "b", "c")
DEPTH = 5  # three runs, one within the other
MOST_RUNS = 40

# What can become of a storage call. `rival`: a run commits undisturbed before the call arrives; `other`: one that
# has troubles of its own; `sleeper`: one that began long ago; `overtaken`: the call takes effect, a run commits,
# and the answer is lost.
OUTCOMES = ("refused", "answer lost", "late", "rival", "other", "sleeper", "overtaken")
Outcome = str


class Spell(Struct, frozen=True):
    """What becomes of the next so many calls for keys that begin with `key`; other calls go well meanwhile."""

    outcome: Outcome
    times: int
    key: str


class Delayed(Struct, frozen=True):
    """A put whose sender was told that it failed, and which is still on its way."""

    key: str
    data: bytes
    condition: Condition


class World:
    """The store, those who write to it, and what was promised to whom."""

    def __init__(self, weather: list[Spell], tries: int) -> None:
        self.store = Mischief(self)
        self.weather = weather
        self.tries = tries
        self.depth = 0
        self.begun: list[Writer] = []
        self.runs = 0
        self.sleepers: list[Writer] = []
        self.committed: dict[str, tuple[Writer, Committed]] = {}
        self.conflicts: set[str] = set()
        self.unknown: set[str] = set()
        self.timestamps: dict[str, str] = {}

    def begin(self, tables: tuple[str, ...]) -> Writer | None:
        """A run reads head, claims its timestamp and takes its snapshot. None where the store failed it."""
        self.runs += 1
        run_id, ledger = f"r{self.runs:02d}", quick_ledger(self.store, self.tries)
        try:
            base = ledger.current()
            stamp = ledger.claim(run_id, NOW).timestamp
        except (StorageError, Conflict):
            return None
        assert stamp not in self.timestamps.values(), "a timestamp was given away twice"
        self.timestamps[run_id] = stamp
        self.begun.append(Writer(ledger, run_id, stamp, base, tables, self.runs))
        return self.begun[-1]

    def finish(self, writer: Writer) -> None:
        """The run commits, and is told what became of it."""
        self.depth += 1
        try:
            result = writer.ledger.commit(writer.manifest(), writer.base, writer.attempted)
            self.committed[writer.run_id] = (writer, result)
        except Conflict:
            self.conflicts.add(writer.run_id)
        except StorageError as error:
            assert isinstance(error, OutcomeUnknown | StorageUnavailable), error
            self.unknown.add(writer.run_id)
        finally:
            self.depth -= 1
        note(f"{writer.run_id}: {self.told(writer.run_id)}")

    def told(self, run_id: str) -> str:
        if run_id in self.committed:
            return f"committed {self.committed[run_id][1].key}"
        return "conflict" if run_id in self.conflicts else "unknown"

    def next_outcome(self, key: str) -> Outcome:
        if not self.weather or not key.startswith(self.weather[0].key):
            return "ok"
        spell = self.weather.pop(0)
        if spell.times > 1:
            self.weather.insert(0, replace(spell, times=spell.times - 1))
        return spell.outcome

    def interlude(self, outcome: Outcome) -> None:
        """Another run, in the middle of a storage call."""
        if self.depth >= DEPTH or self.runs >= MOST_RUNS:
            return
        calm = self.store.calm
        self.store.calm = calm or outcome == "rival"
        self.depth += 1
        try:
            asleep = outcome == "sleeper" and self.sleepers
            writer = self.sleepers.pop(0) if asleep else self.begin((TABLES[self.runs % 3],))
            if writer is not None:
                self.finish(writer)
        finally:
            self.depth -= 1
            self.store.calm = calm

    def chain(self) -> list[Manifest]:
        return list(quick_ledger(self.store).history())


class Writer(Struct, frozen=True):
    """A run that has begun: it saw the source at moment `number`, and read those tables."""

    ledger: Ledger
    run_id: str
    timestamp: str
    base: Current | None
    tables: tuple[str, ...]
    number: int

    def attempted(self, table: TableName) -> bool:
        return table.name in self.tables

    def manifest(self) -> Manifest:
        at = point(self.number)
        entries: dict[str, TableEntry] = {}
        if self.base is not None:
            entries = {one.name: one for one in self.base.manifest.tables}
        for name in self.tables:
            entries[name] = entry(name, at, stored(f"{name}/extraction_timestamp={self.timestamp}/0"))
        whole = manifest(self.run_id, at, *(entries[name] for name in sorted(entries)), timestamp=self.timestamp)
        return replace(whole, parent=None if self.base is None else self.base.head.manifest)


class Mischief(MemoryStorage):
    """A store whose every put and get may go wrong as the world's schedule says."""

    def __init__(self, world: World) -> None:
        super().__init__("memory:state")
        self._world = world
        self._delayed: list[Delayed] = []
        self.calm = False

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        outcome = self._outcome(key)
        if outcome in ("rival", "other", "sleeper"):
            self._world.interlude(outcome)
        if outcome == "late":
            body.stream.seek(0)
            self._delayed.append(Delayed(key, body.stream.read(), condition))
        if outcome in ("refused", "late"):
            raise StorageUnavailable("put an object", on=key, why=outcome)
        etag = self._written(key, body, condition)
        if outcome == "overtaken":
            self._world.interlude("rival")
        if outcome in ("answer lost", "overtaken"):
            raise StorageUnavailable("put an object", on=key, why=outcome)
        return etag

    def get(self, key: str) -> Fetched:
        outcome = self._outcome(key)
        if outcome in ("rival", "other", "sleeper"):
            self._world.interlude(outcome)
        if outcome in ("refused", "answer lost"):
            raise StorageUnavailable("read an object", on=key, why=outcome)
        return super().get(key)

    def arrive(self) -> None:
        """What was on its way arrives."""
        while self._delayed:
            late = self._delayed.pop(0)
            body = Body(io.BytesIO(late.data), len(late.data), hashlib.sha256(late.data).hexdigest())
            try:
                self._written(late.key, body, late.condition)
            except ConditionFailed as error:
                note(f"a late put was refused: {error.sentence}")

    def _outcome(self, key: str) -> Outcome:
        if self.calm:
            return "ok"
        outcome = self._world.next_outcome(key)
        if outcome != "ok":
            note(f"{'  ' * self._world.depth}{key}: {outcome}")
        if outcome == "ok":
            self.arrive()
        return outcome

    def _written(self, key: str, body: Body, condition: Condition) -> str:
        before: Stat | None = self.stat(key)
        etag = super().put(key, body, condition)
        assert before is None or not key.startswith("manifests/"), "a manifest was overwritten"
        if key == "head.json":
            self._require_head_to_be_good()
        return etag

    def _require_head_to_be_good(self) -> None:
        """At every moment at which a reader may come, not only at the end."""
        head = decode(Head, super().get("head.json").data, "head.json")
        named = super().get(head.manifest).data
        assert hashlib.sha256(named).hexdigest() == head.manifest_sha256, "head names another manifest"


def require_promises_kept(world: World) -> None:
    chain = world.chain()
    times = Counter(one.run_id for one in chain)
    assert not [run_id for run_id, count in times.items() if count > 1], "a run stands in the chain twice"
    for run_id, (_, result) in world.committed.items():
        (found,) = [one for one in chain if one.run_id == run_id]
        assert found == result.manifest
        assert result.key.startswith(f"manifests/{run_id}.")
    assert not world.conflicts & times.keys(), "a run was told that it lost, and it had won"
    require_nothing_lost(world, chain)


def require_nothing_lost(world: World, chain: list[Manifest]) -> None:
    """Of each table, head names the latest snapshot that a run in the chain took (all are of one lineage)."""
    landed = {one.run_id for one in chain}
    latest: dict[str, str] = {}
    for writer in world.begun:  # in the order of their snapshots
        if writer.run_id in landed:
            latest |= {table: point(writer.number).taken_at for table in writer.tables}
    assert {one.name: one.as_of for one in (chain[0].tables if chain else ())} == latest


spells = st.builds(
    Spell,
    st.sampled_from(OUTCOMES),
    st.sampled_from((1, 1, 1, 2, 3, 8, 30)),
    st.sampled_from(("", "head.json", "manifests/", "inflight.json")),
)
begun = st.tuples(st.sets(st.sampled_from(TABLES), min_size=1).map(sorted).map(tuple), st.booleans())


@settings(max_examples=500, deadline=None)
@given(
    weather=st.lists(spells, max_size=20),
    tries=st.sampled_from((1, 2)),
    plans=st.lists(begun, min_size=1, max_size=5),
)
def test_whatever_the_store_does_every_promise_is_kept(
    weather: list[Spell], tries: int, plans: list[tuple[tuple[str, ...], bool]]
) -> None:
    world = World(weather, tries)
    for tables, sleeps in plans:
        writer = world.begin(tables)
        if writer is not None and sleeps:
            world.sleepers.append(writer)
        elif writer is not None:
            world.finish(writer)
    while world.sleepers:
        world.finish(world.sleepers.pop(0))
    world.store.calm = True
    world.store.arrive()
    tell_what_was_played(world)
    require_promises_kept(world)


def tell_what_was_played(world: World) -> None:
    """For --hypothesis-show-statistics: a model in which nothing goes wrong proves nothing."""
    results = [result for _, result in world.committed.values()]
    event("some run was rebased", payload=any(one.rebased for one in results))
    event("some run ended in conflict", payload=bool(world.conflicts))
    event("some run's outcome was unknown", payload=bool(world.unknown))
