"""Runs, dead, resumed and sleeping ones, readers and prunes over one store that loses and delays what it is told:
at every moment every manifest in reach is there, and every object it names.

Any storage call may be interrupted by a whole run, a whole prune, or a sleep of days with a prune after it; prunes are
interrupted by runs, runs by prunes, and both by themselves.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from fix_state import entry, manifest, point, put, quick_ledger, stored
from floodmark.engine.local import LocalThreads
from floodmark.errors import ConditionFailed, Conflict, OutcomeUnknown, StorageError, StorageUnavailable
from floodmark.layout import progress_key, table_prefix, timestamp_of
from floodmark.model import TableEntry, TableName
from floodmark.prune.job import EraseBefore, KeepDays, KeepLast, Rule, prune_stores
from floodmark.state.inflight import FORGET_AFTER
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import Head, Manifest, decode
from floodmark.storage.base import Body, Condition, Fetched
from floodmark.storage.memory import MemoryStorage

TABLES = ("a", "b", "c")
DEPTH = 3
MOST_ACTS = 60
DAY = timedelta(days=1)
OUTCOMES = ("refused", "answer lost", "late", "run", "prune", "sleep", "finish")


class Spell(Struct, frozen=True):
    """What becomes of the next so many calls for keys that begin with `key`; other calls go well meanwhile."""

    outcome: str
    times: int
    key: str


class Reader(Struct, frozen=True):
    """One who took head at a time, and reads what it names until a grace time later."""

    since: datetime
    names: frozenset[str]


class Writer(Struct, frozen=True):
    """A run at work: its base, its timestamp, and the objects it has of each table, its own or taken over."""

    ledger: Ledger
    run_id: str
    timestamp: str
    base: Current | None
    objects: dict[str, str]
    number: int
    began: datetime

    def attempted(self, table: TableName) -> bool:
        return table.name in self.objects

    def manifest(self, now: datetime) -> Manifest:
        at = point(self.number)
        entries: dict[str, TableEntry] = {}
        if self.base is not None:
            entries = {one.name: one for one in self.base.manifest.tables}
        for name, key in self.objects.items():
            entries[name] = entry(name, at, stored(key))
        whole = manifest(self.run_id, at, *(entries[name] for name in sorted(entries)), timestamp=self.timestamp)
        parent = None if self.base is None else self.base.head.manifest
        return replace(whole, parent=parent, finished_at=now.isoformat())


class World:
    """Two stores, all who work on them, a clock, and what was promised."""

    def __init__(self, weather: list[Spell], grace: timedelta, rule: Rule) -> None:
        self.state, self.data = Mischief(self, "memory:state"), Mischief(self, "memory:data")
        self.weather, self.grace, self.rule = weather, grace, rule
        self.now = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
        self.depth = self.acts = self.numbers = 0
        self.asleep: list[Writer] = []
        self.dead: dict[str, str] = {}
        self.readers: list[Reader] = []
        self.calm = False
        self.committing = 0
        self.trusted = True
        self.seen: set[str] = set()

    def begin(self, tables: tuple[str, ...], takes_over: bool) -> Writer | None:
        """A run reads head, claims, leaves its progress and puts its objects, or takes a dead run's over."""
        self.numbers += 1
        number, ledger = self.numbers, quick_ledger(self.state)
        run_id = f"{self.now.strftime('%Y%m%dT%H%M%SZ')}-{number:06x}"
        objects: dict[str, str] = {}
        began = self.now
        try:
            base = ledger.current()
            stamp = ledger.claim(run_id, self.now).timestamp
            floor = base.head.floor if base is not None else None
            for name in tables:
                old = self.dead.get(name)
                if takes_over and old is not None and (floor is None or (timestamp_of(old) or "") > floor):
                    objects[name] = old
                    self.seen.add("took over")
                else:
                    objects[name] = _key(name, stamp)
            put(self.state, progress_key(run_id), _progress(stamp, objects))
            for key in objects.values():
                if stamp in key:
                    put(self.data, key, b"lines")
                elif self.data.stat(key) is None:
                    return None  # what it would take over is gone: it would extract anew
        except (StorageError, Conflict):
            self.dead |= {name: key for name, key in objects.items() if self.data.there(key)}
            return None
        return Writer(ledger, run_id, stamp, base, objects, number, began)

    def finish(self, writer: Writer) -> None:
        self.depth += 1
        self.committing += 1
        try:
            committed = writer.ledger.commit(writer.manifest(self.now), writer.base, writer.attempted)
            note(f"{writer.run_id}: committed {committed.key}")
            writer.ledger.release(writer.run_id)
        except Conflict as error:
            note(f"{writer.run_id}: {error.sentence}")
            fenced = "grace" in error.what
            self.seen.add("fenced" if fenced else "conflict")
            assert not fenced or self.now - writer.began > max(self.grace, FORGET_AFTER), "it was not slow at all"
        except StorageError as error:
            assert isinstance(error, OutcomeUnknown | StorageUnavailable), error
            note(f"{writer.run_id}: unknown")
        finally:
            self.depth -= 1
            self.committing -= 1

    def prune(self) -> None:
        self.depth += 1
        before = self.data.deleted
        try:
            done = prune_stores(quick_ledger(self.state), self.data, self.rule, self.now, self.grace)
            note(f"pruned: {None if done is None else (done.cut, len(done.objects))}")
        except (StorageError, Conflict) as error:
            assert isinstance(error, Conflict | OutcomeUnknown | StorageUnavailable), error
            note(f"prune ended: {error.sentence}")
        finally:
            self.depth -= 1
            if self.data.deleted > before:
                self.seen.add("pruned in a run" if self.committing else "pruned")

    def read(self) -> None:
        """A reader takes head."""
        head = self.state.head()
        if head is not None:
            names = _names(self.state.document(head.manifest))
            self.readers.append(Reader(self.now, names))

    def act(self, kind: str) -> None:
        """Something whole happens, perhaps in the middle of a storage call."""
        if self.depth >= DEPTH or self.acts >= MOST_ACTS:
            return
        self.acts += 1
        self.depth += 1
        self.read()
        try:
            if kind == "sleep":
                self.trusted = self.trusted and not self.committing  # finished_at is then long past at the commit
                self.now += 8 * DAY
            if kind in ("sleep", "prune"):
                self.prune()
            elif kind == "finish" and self.asleep:
                self.finish(self.asleep.pop(0))
            elif kind == "run":
                writer = self.begin((TABLES[self.acts % 3],), takes_over=self.acts % 2 == 0)
                if writer is not None:
                    self.finish(writer)
        finally:
            self.depth -= 1

    def outcome(self, key: str) -> str:
        if self.calm or not self.weather or not key.startswith(self.weather[0].key):
            return "ok"
        spell = self.weather.pop(0)
        if spell.times > 1:
            self.weather.insert(0, replace(spell, times=spell.times - 1))
        note(f"{'  ' * self.depth}{key}: {spell.outcome}")
        return spell.outcome

    def require_reach_to_be_whole(self) -> None:
        head = self.state.head()
        key = head.manifest if head is not None else None
        while head is not None and key is not None:
            assert self.state.there(key), f"{key} is in reach, and gone"
            found = self.state.document(key)
            for name in _names(found):
                assert self.data.there(name), f"{key} is in reach, and {name}, which it names, gone"
            key = None if key == head.oldest else found.parent

    def require_readers_to_be_served(self) -> None:
        if self.trusted:
            for reader in self.readers:
                if self.now < reader.since + self.grace:
                    assert all(map(self.data.there, reader.names)), "a reader within the grace time lost an object"


class Mischief(MemoryStorage):
    """A store whose calls go wrong as the world's schedule says, and whose every change is looked at."""

    def __init__(self, world: World, url: str) -> None:
        super().__init__(url)
        self._world = world
        self._delayed: list[tuple[str, bytes, Condition]] = []
        self.deleted = 0

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        outcome = self._before(key)
        body.stream.seek(0)
        if outcome == "late":
            self._delayed.append((key, body.stream.read(), condition))
        if outcome in ("refused", "late"):
            raise StorageUnavailable("put an object", on=key, why=outcome)
        etag = super().put(key, body, condition)
        self._world.require_reach_to_be_whole()
        if outcome == "answer lost":
            raise StorageUnavailable("put an object", on=key, why=outcome)
        return etag

    def get(self, key: str) -> Fetched:
        if self._before(key) in ("refused", "answer lost"):
            raise StorageUnavailable("read an object", on=key, why="refused")
        return super().get(key)

    def delete(self, key: str) -> None:
        outcome = self._before(key)
        if outcome == "refused":
            raise StorageUnavailable("delete an object", on=key, why=outcome)
        super().delete(key)
        self.deleted += 1
        self._world.require_reach_to_be_whole()
        self._world.require_readers_to_be_served()
        if outcome == "answer lost":
            raise StorageUnavailable("delete an object", on=key, why=outcome)

    def arrive(self) -> None:
        """What was on its way arrives."""
        while self._delayed:
            key, data, condition = self._delayed.pop(0)
            body = Body(io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())
            try:
                super().put(key, body, condition)
            except ConditionFailed as error:
                note(f"a late put was refused: {error.sentence}")
            self._world.require_reach_to_be_whole()

    def there(self, key: str) -> bool:
        return key in self._objects

    def head(self) -> Head | None:
        found = self._objects.get("head.json")
        return None if found is None else decode(Head, found.data, "head.json")

    def document(self, key: str) -> Manifest:
        return decode(Manifest, self._objects[key].data, key)

    def _before(self, key: str) -> str:
        outcome = self._world.outcome(key)
        if outcome in ("run", "prune", "sleep", "finish"):
            self._world.act(outcome)
        elif outcome == "ok":
            self.arrive()
        return outcome


def _key(name: str, stamp: str) -> str:
    return f"data/database_name=cases/table_name={name}/extraction_timestamp={stamp}/{name}-00000.jsonl.gz"


def _progress(stamp: str, objects: dict[str, str]) -> bytes:
    keys = ",".join(f'{{"key":"{key}"}}' for key in objects.values())
    return f'{{"timestamp":"{stamp}","objects":[{keys}]}}'.encode()


def _names(found: Manifest) -> frozenset[str]:
    return frozenset(one.key for table in found.tables for one in table.objects)


@pytest.fixture(scope="module", autouse=True)
def one_thing_after_the_other() -> Iterator[None]:
    """No threads: what happens within a storage call is the schedule's, so that a schedule can be played again."""

    def in_turn(self: LocalThreads, work: Any, tasks: Any) -> Iterator[Any]:
        for task in tasks:
            try:
                yield task, work(task)
            except StorageError as error:
                yield task, error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalThreads, "run_tasks", in_turn)
        yield


steps = st.one_of(
    st.tuples(
        st.sampled_from(("run", "run", "sleeper", "dies")),
        st.sets(st.sampled_from(TABLES), min_size=1).map(sorted).map(tuple),
        st.booleans(),
    ),
    st.tuples(st.sampled_from(("prune", "prune", "prune", "finish", "hours", "days", "week", "week"))),
)
spells = st.builds(
    Spell,
    st.sampled_from(OUTCOMES),
    st.sampled_from((1, 1, 1, 2, 3, 8)),
    st.sampled_from(("", "head.json", "manifests/", "data/", "progress/", "inflight.json")),
)
rules = st.sampled_from(
    (KeepLast(1), KeepLast(1), KeepLast(2), KeepDays(1), KeepDays(10), EraseBefore("20261129000000Z"))
)
spans = {"hours": timedelta(hours=7), "days": 3 * DAY, "week": 8 * DAY}


@settings(max_examples=300, deadline=None)
@given(
    weather=st.one_of(st.just([]), st.lists(spells, max_size=12)),
    grace=st.sampled_from((timedelta(0), DAY, 7 * DAY, 7 * DAY)),
    rule=rules,
    script=st.lists(steps, min_size=6, max_size=16),
)
def test_what_is_in_reach_is_whole_at_every_moment(
    weather: list[Spell], grace: timedelta, rule: Rule, script: list[tuple]
) -> None:
    world = World(weather, grace, rule)
    for step in script:
        play(world, step)
    while world.asleep:
        world.finish(world.asleep.pop(0))
    world.calm = True
    for store in (world.state, world.data):
        store.arrive()
    world.require_reach_to_be_whole()
    require_all_else_to_go(world)
    for what in world.seen:
        event(what)


def play(world: World, step: tuple) -> None:
    kind, *rest = step
    world.read()
    note(f"{world.now:%m-%d %H:%M} {kind} {rest}")
    if kind in spans:
        world.now += spans[kind]
    elif kind == "prune":
        world.prune()
    elif kind == "finish" and world.asleep:
        world.finish(world.asleep.pop(0))
    elif kind in ("run", "sleeper", "dies"):
        writer = world.begin(*rest)
        if writer is None:
            return
        if kind == "run":
            world.finish(writer)
        elif kind == "sleeper":
            world.asleep.append(writer)
        else:
            world.dead |= writer.objects


def require_all_else_to_go(world: World) -> None:
    """Long after, when no one is at work any more, what the current manifest names is all there is; what is left
    besides is left because nothing tells whose it is."""
    world.now += 30 * DAY
    done = prune_stores(quick_ledger(world.state), world.data, KeepLast(1), world.now, 7 * DAY)
    head = world.state.head()
    assert (done is None) == (head is None)
    if done is not None and head is not None:
        assert set(world.state.list("manifests/")) == {head.manifest}
        assert set(world.state.list("progress/")) == set()
        named = _names(world.state.document(head.manifest))
        left = set(world.data.list("")) - named
        assert left <= set(done.unknown) | _never_known(world), "something of ours was left"


def _never_known(world: World) -> set[str]:
    """Objects of tables that the current manifest does not name: those of runs that died before the first commit of
    the table, and whose progress is gone."""
    head = world.state.head()
    assert head is not None
    known = {table_prefix(name) for name in _names(world.state.document(head.manifest))}
    return {key for key in world.data.list("") if table_prefix(key) not in known}
