"""The compare-and-swap: refusals, lost answers, other writers, and its three users beside the ledger."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fix_state import Plan, lost, no_wait, put
from floodmark.errors import ConditionFailed, Conflict, OutcomeUnknown, StorageDenied
from floodmark.events import ignore_event
from floodmark.load import parquet
from floodmark.load.parquet import ParquetPlace
from floodmark.load.parquet_files import INDEX
from floodmark.load.target import LoadSource
from floodmark.model import TableName
from floodmark.reader.cursor import CursorStore
from floodmark.retrying import Patience
from floodmark.state.consumers import ParquetFile, ParquetTable
from floodmark.state.documents import Documents
from floodmark.state.manifest import Inflight
from floodmark.storage.memory import MemoryStorage
from floodmark.storage.probe import body_of
from floodmark.storage.retry import RetryingStorage

KEY = "a.json"


@pytest.fixture
def store() -> MemoryStorage:
    return MemoryStorage("memory:state")


def documents(store: MemoryStorage, tries: int = 1, sleep: Any = no_wait) -> Documents:
    return Documents(RetryingStorage(store, ignore_event, Patience(tries=tries), no_wait), sleep=sleep)


def written(store: MemoryStorage, data: bytes) -> str:
    put(store, KEY, data)
    return store.get(KEY).etag


def refused() -> None:
    raise ConditionFailed("put an object", why="a test says so")


def denied() -> None:
    raise StorageDenied("put an object", why="a test says so")


@pytest.mark.parametrize("first", [True, False])
def test_an_answered_write_takes_effect_and_tells_its_etag(store: MemoryStorage, first: bool) -> None:
    etag = None if first else written(store, b"old")
    swap = documents(store).replace(KEY, b"new", etag)
    assert swap.ours and swap.there == store.get(KEY) and store.get(KEY).data == b"new"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_is_decided_by_what_is_there(store: MemoryStorage, first: bool, moment: str) -> None:
    """After the write it took effect. Before it the old version is still there, so the write is repeated."""
    etag = None if first else written(store, b"old")
    plan = Plan(store)
    plan.at("put", KEY, moment, lost)
    swap = documents(store).replace(KEY, b"new", etag)
    assert swap.ours and swap.there == store.get(KEY) and store.get(KEY).data == b"new" and plan.spent


@pytest.mark.parametrize("lose", [True, False])
def test_another_version_is_another_writer_s(store: MemoryStorage, lose: bool) -> None:
    etag = written(store, b"old")
    theirs = written(store, b"theirs")
    if lose:
        Plan(store).at("put", KEY, "before", lost)
    swap = documents(store).replace(KEY, b"new", etag)
    assert not swap.ours and swap.there is not None and swap.there.etag == theirs
    assert store.get(KEY).data == b"theirs"


def test_a_vanished_document_is_not_written_again(store: MemoryStorage) -> None:
    etag = written(store, b"old")
    store.delete(KEY)
    swap = documents(store).replace(KEY, b"new", etag)
    assert not swap.ours and swap.there is None


def test_a_later_version_can_hold_our_write(store: MemoryStorage) -> None:
    """Another writer came after ours, before we could read back."""
    etag = written(store, b"old")

    def go_on_and_lose() -> None:
        written(store, b"new and more")
        lost()

    Plan(store).at("put", KEY, "after", go_on_and_lose)
    swap = documents(store).replace(KEY, b"new", etag, lambda data: b"new" in data)
    assert swap.ours and swap.there is not None and swap.there.data == b"new and more"


@pytest.mark.parametrize("fault", [lost, refused])
def test_an_old_version_that_stays_is_no_verdict(store: MemoryStorage, fault: Any) -> None:
    """Five tries with four waits between them; then the outcome is unknown."""
    etag = written(store, b"old")
    waits: list[float] = []
    Plan(store).at("put", KEY, "before", *[fault] * 9)
    with pytest.raises(OutcomeUnknown, match=r"can't tell if a document was written: memory:state/a\.json"):
        documents(store, sleep=waits.append).replace(KEY, b"new", etag)
    assert len(waits) == 4 and max(waits) <= 3.2


@pytest.mark.parametrize("after", ["read back", "written again"])
def test_a_failure_after_a_lost_answer_is_unknown(store: MemoryStorage, after: str) -> None:
    etag = written(store, b"old")
    plan = Plan(store)
    plan.at("put", KEY, "after" if after == "read back" else "before", lost)
    plan.at(*("get", KEY) if after == "read back" else ("put", KEY), "before", denied)
    with pytest.raises(OutcomeUnknown, match="can't tell if a document was written"):
        documents(store).replace(KEY, b"new", etag)
    assert plan.spent


def test_a_failure_that_nothing_went_before_is_known(store: MemoryStorage) -> None:
    Plan(store).at("put", KEY, "before", denied)
    with pytest.raises(StorageDenied):
        documents(store).replace(KEY, b"new", None)


def test_a_change_is_computed_again_from_what_others_left(store: MemoryStorage) -> None:
    """Without a document it is computed from the empty one, and nothing is written if it changes nothing."""
    place, key = documents(store), "inflight.json"
    same = lambda there, wanted: there.latest == wanted  # noqa: E731
    assert place.change(key, Inflight(), lambda before: (before, "x"), same) == "x"
    assert store.stat(key) is None

    def longer(by: str) -> str:
        def compute(before: Inflight) -> tuple[Inflight, str]:
            latest = f"{before.latest or ''}{by}"
            return Inflight(latest=latest), latest

        return place.change(key, Inflight(), compute, same)

    assert longer("a") == "a"
    plan = Plan(store)
    plan.at("put", key, "before", lambda: longer("b"))
    assert longer("c") == "abc" and plan.spent


# Cursors


def advance(store: MemoryStorage, run_id: str) -> None:
    cursors = CursorStore(RetryingStorage(store, ignore_event, Patience(tries=1), no_wait))
    cursors.write(cursors.read("nightly"), run_id, ())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_cursor_moves_although_an_answer_is_lost(store: MemoryStorage, moment: str) -> None:
    """Release 0.1.0 took a write that never arrived for another process's."""
    advance(store, "r1")
    plan = Plan(store)
    plan.at("put", "cursors/nightly.json", moment, lost)
    advance(store, "r2")
    assert CursorStore(store).read("nightly").run_id == "r2" and plan.spent


def test_a_cursor_that_another_process_moved_is_a_conflict(store: MemoryStorage) -> None:
    cursors = CursorStore(store)
    old = cursors.read("nightly")
    advance(store, "r1")
    with pytest.raises(Conflict, match=r"another consumer moved it to r1"):
        cursors.write(old, "r2", ())


# The index of a Parquet place


class Lake:
    """Loads into one Parquet place, each of one table with one file."""

    def __init__(self, store: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        patient = RetryingStorage(store, ignore_event, Patience(tries=1), no_wait)
        monkeypatch.setattr(parquet, "open_data", lambda url, observer: patient)

    def place(self, table: str) -> ParquetPlace:
        place, key = ParquetPlace("memory:lake", ignore_event), f"{table}/{table}.parquet"
        place.loaded(LoadSource("postgresql", "cases", "7"))
        body = body_of(b"rows")
        place.put(key, body)
        file = ParquetFile(key=key, rows=1, stored_bytes=body.size, sha256=body.sha256, content_sha256=body.sha256)
        place._staged[TableName("public", table)] = ParquetTable(
            schema="public", name=table, run_id="", checksum="", shape="", rows=1, columns=(), files=(file,)
        )
        return place

    def commit(self, place: ParquetPlace) -> None:
        staged: list[Any] = [SimpleNamespace(table=SimpleNamespace(name=name)) for name in place._staged]
        place.commit(LoadSource("postgresql", "cases", "7"), "r1", staged, [])

    def named(self) -> set[str]:
        place = ParquetPlace("memory:lake", ignore_event)
        place.loaded(LoadSource("postgresql", "cases", "7"))
        assert place._index is not None
        return {file.key for table in place._index.tables for file in table.files}

    def files(self) -> set[str]:
        return {key for key in self.store.list("") if key.endswith(".parquet")}


@pytest.fixture
def lake(store: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> Lake:
    return Lake(store, monkeypatch)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_index_moves_although_an_answer_is_lost(lake: Lake, moment: str) -> None:
    """Release 0.1.0 deleted the files of a load whose write never arrived, and called it another load's."""
    plan = Plan(lake.store)
    plan.at("put", INDEX, moment, lost)
    lake.commit(lake.place("a"))
    assert plan.spent and lake.named() == lake.files() == {"a/a.parquet"}


def test_files_that_a_later_index_names_are_not_deleted(lake: Lake) -> None:
    """Our answer is lost, and another load moves the index on from ours: its index names our files."""
    lake.commit(lake.place("a"))
    ours = lake.place("b")

    def go_on_and_lose() -> None:
        lake.commit(lake.place("c"))
        lost()

    Plan(lake.store).at("put", INDEX, "after", go_on_and_lose)
    lake.commit(ours)
    assert lake.named() == lake.files() == {"a/a.parquet", "b/b.parquet", "c/c.parquet"}


def test_while_the_outcome_is_unknown_no_file_is_deleted(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", no_wait)
    ours = lake.place("a")
    ours._documents = documents(lake.store)
    Plan(lake.store).at("put", INDEX, "before", *[lost] * 9)
    with pytest.raises(OutcomeUnknown):
        lake.commit(ours)
    assert lake.files() == {"a/a.parquet"}


def test_the_loser_deletes_its_own_files(lake: Lake) -> None:
    lake.commit(lake.place("a"))
    ours = lake.place("b")
    lake.commit(lake.place("c"))
    with pytest.raises(Conflict, match="another load changed the index"):
        lake.commit(ours)
    assert lake.named() == lake.files() == {"a/a.parquet", "c/c.parquet"}
