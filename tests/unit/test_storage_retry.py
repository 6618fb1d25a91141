"""What is tried again, how often, with which waits; and when an outcome is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from floodmark.errors import (
    ConditionFailed,
    ConfigError,
    ObjectMissing,
    OutcomeUnknown,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from floodmark.events import Event, Retried
from floodmark.retrying import Patience
from floodmark.storage.base import Condition, IfAbsent, IfMatch, Stat
from floodmark.storage.memory import MemoryStorage
from floodmark.storage.probe import body_of, put_once
from floodmark.storage.retry import RetryingStorage
from floodmark.storage.worker_places import WorkerPlaces

UNAVAILABLE = StorageUnavailable("put", on="key", why="HTTP 503")


class Faulty:
    """Fails each operation at the moments given, once each, in order."""

    def __init__(self, *planned: tuple[str, StorageError]) -> None:
        self.planned = list(planned)
        self.calls: list[str] = []

    def __call__(self, operation: str, key: str, moment: str) -> None:
        if moment == "before":
            self.calls.append(operation)
        if self.planned and self.planned[0][0] == moment:
            raise self.planned.pop(0)[1]


class Bench:
    """A memory store behind a retrying one, with what was slept and told."""

    def __init__(self, *planned: tuple[str, StorageError], patience: Patience = Patience()) -> None:  # noqa: B008
        self.faults = Faulty(*planned)
        self.memory = MemoryStorage()
        self.slept: list[float] = []
        self.events: list[Event] = []
        self.store = RetryingStorage(self.memory, self.events.append, patience, self.slept.append)

    def put(self, condition: Condition = None) -> str:
        self.memory.faults = self.faults
        return self.store.put("key", body_of(b"ours"), condition)


OPERATIONS: dict[str, Callable[[RetryingStorage], Any]] = {
    "check": lambda store: store.check(),
    "put": lambda store: store.put("key", body_of(b"ours")),
    "get": lambda store: store.get("key").data,
    "open": lambda store: store.open("key").read(),
    "stat": lambda store: store.stat("key"),
    "delete": lambda store: store.delete("key"),
    "list": lambda store: list(store.list("")),
}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_everything_is_tried_again(operation: str, moment: str) -> None:
    bench = Bench((moment, UNAVAILABLE), (moment, UNAVAILABLE))
    bench.memory.put("key", body_of(b"ours"))
    bench.memory.faults = bench.faults
    OPERATIONS[operation](bench.store)
    assert bench.faults.calls == [operation] * 3
    assert [(e.why, e.attempt) for e in bench.events if isinstance(e, Retried)] == [("HTTP 503", 1), ("HTTP 503", 2)]
    assert len(bench.slept) == 2


@pytest.mark.parametrize("error", [StorageDenied("put"), StorageError("put"), ConditionFailed("put"), KeyError("bug")])
@pytest.mark.parametrize("condition", [None, IfAbsent()])
def test_what_can_not_pass_is_not_tried_again(error: Any, condition: Condition) -> None:
    bench = Bench(("before", error))
    with pytest.raises(type(error)):
        bench.put(condition)
    assert bench.faults.calls == ["put"]
    assert bench.slept == [] == bench.events


def test_a_missing_object_is_asked_for_once() -> None:
    bench = Bench()
    with pytest.raises(ObjectMissing):
        bench.store.get("nothing")
    assert bench.store.stat("nothing") is None
    assert bench.slept == []


def test_waits_grow_to_their_bound_and_differ_and_end() -> None:
    patience = Patience(tries=8, shortest=1.0, longest=10.0, jitter=0.5)
    one, other = (Bench(*[("before", UNAVAILABLE)] * 20, patience=patience) for _ in range(2))
    for bench in (one, other):
        with pytest.raises(StorageUnavailable):
            bench.put()
        assert bench.faults.calls == ["put"] * 8
        for slept, doubled in zip(bench.slept, [1, 2, 4, 8, 10, 10, 10], strict=True):
            assert doubled <= slept <= doubled + 0.5
    assert one.slept != other.slept


def test_a_condition_refused_at_once_is_refused_for_certain() -> None:
    bench = Bench()
    bench.memory.put("key", body_of(b"theirs"))
    with pytest.raises(ConditionFailed):
        bench.put(IfAbsent())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_condition_refused_after_an_unanswered_try_is_unknown(moment: str) -> None:
    """Whether our own first try did it ("after") or another writer ("before") can't be told from here."""
    bench = Bench((moment, UNAVAILABLE))
    if moment == "before":
        bench.memory.put("key", body_of(b"theirs"))
    with pytest.raises(OutcomeUnknown, match="ConditionFailed"):
        bench.put(IfAbsent())
    assert bench.memory.get("key").data == (b"ours" if moment == "after" else b"theirs")


def test_if_match_knows_doubt_too() -> None:
    bench = Bench(("after", UNAVAILABLE))
    etag = bench.memory.put("key", body_of(b"before"))
    with pytest.raises(OutcomeUnknown):
        bench.put(IfMatch(etag))


def test_a_conditional_put_that_is_never_answered_is_unknown() -> None:
    bench = Bench(*[("before", UNAVAILABLE)] * 20)
    with pytest.raises(OutcomeUnknown, match="HTTP 503"):
        bench.put(IfAbsent())
    assert len(bench.faults.calls) == Patience().tries


def test_whatever_follows_an_unanswered_try_is_unknown() -> None:
    bench = Bench(("after", UNAVAILABLE), ("before", StorageDenied("put", why="ExpiredToken")))
    with pytest.raises(OutcomeUnknown, match="StorageDenied"):
        bench.put(IfAbsent())


def test_a_conditional_put_that_gets_through_at_last_is_certain() -> None:
    bench = Bench(("before", UNAVAILABLE), ("before", UNAVAILABLE))
    assert bench.put(IfAbsent()) == bench.memory.get("key").etag


def test_an_unconditional_put_that_is_never_answered_is_unavailable() -> None:
    bench = Bench(*[("after", UNAVAILABLE)] * 20)
    with pytest.raises(StorageUnavailable):
        bench.put()


def test_a_listing_that_breaks_midway_gives_no_key_twice() -> None:
    class Breaking(MemoryStorage):
        broken = False

        def list(self, prefix: str) -> Iterator[str]:
            for key in super().list(prefix):
                yield key
                if not self.broken:
                    self.broken = True
                    raise UNAVAILABLE

    inner = Breaking()
    for name in ("a", "b"):
        inner.put(name, body_of(b""))
    assert sorted(RetryingStorage(inner, lambda e: None, sleep=lambda s: None).list("")) == ["a", "b"]


def test_a_put_under_a_key_of_one_s_own_can_be_repeated() -> None:
    """A task can run twice, and its first answer can be lost. What someone else wrote is never taken for its own."""
    store = MemoryStorage()
    put_once(store, "a", body_of(b"lines"))
    put_once(store, "a", body_of(b"lines"))
    with pytest.raises(ConditionFailed):
        put_once(store, "a", body_of(b"other"))
    assert store.get("a").data == b"lines"


def test_a_store_that_knows_no_digest_is_asked_for_the_bytes() -> None:
    """As a folder, and as S3 after a put in parts. Another worker can have put as many bytes."""

    class Forgetful(MemoryStorage):
        def stat(self, key: str) -> Stat | None:
            found = super().stat(key)
            return None if found is None else replace(found, sha256=None)

    store = Forgetful()
    put_once(store, "a", body_of(b"lines"))
    put_once(store, "a", body_of(b"lines"))
    with pytest.raises(ConditionFailed):
        put_once(store, "a", body_of(b"other"))


def test_each_worker_s_first_object_is_looked_for() -> None:
    store = MemoryStorage()
    places = WorkerPlaces(store)
    put_once(store, "a", body_of(b"lines"))
    places.require_same("one", "a", 5)
    places.require_same("one", "gone", 5)
    for key, size in (("gone", 5), ("a", 6)):
        with pytest.raises(ConfigError, match="a worker writes to another place"):
            places.require_same("two", key, size)
