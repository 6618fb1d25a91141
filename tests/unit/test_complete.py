"""The search for commits that are not announced yet: how far back it goes, and what ends it."""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from fix_state import put, quick_ledger, run
from floodmark.layout import HEAD, complete_key
from floodmark.pipeline.complete import LOOK_BACK, _incomplete_commits
from floodmark.state.documents import Documents
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Head, encode
from floodmark.storage.memory import MemoryStorage


class State:
    """A state whose runs r1, r2, … were all asked to announce their commits, but for those in `silent`."""

    def __init__(self, runs: int, silent: frozenset[int] = frozenset()) -> None:
        self.store = MemoryStorage("memory:state")
        self.ledger: Ledger = quick_ledger(self.store)
        for number in range(1, runs + 1):
            base = self.ledger.current()
            asked = UNSET if number in silent else True
            self.ledger.commit(replace(run(f"r{number}", number, base), announces=asked), base)

    def record(self, run_id: str) -> None:
        put(self.store, complete_key(run_id), b"{}")

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def end_history_at(self, run_id: str) -> None:
        documents = Documents(self.store)
        head, etag = documents.fetch(Head, HEAD) or (None, None)
        assert head is not None
        key = f"manifests/{run_id}.json"
        assert documents.replace(HEAD, encode(replace(head, oldest=key)), etag).ours

    def incomplete(self) -> list[str]:
        current = self.ledger.current()
        assert current is not None
        return [one.run_id for _, one in _incomplete_commits(self.ledger, (current.head.manifest, current.manifest))]


def test_it_ends_at_a_commit_with_a_record() -> None:
    state = State(4)
    state.record("r2")
    assert state.incomplete() == ["r3", "r4"]
    state.record("r4")
    assert state.incomplete() == []


def test_it_ends_at_a_commit_whose_run_was_not_asked() -> None:
    assert State(4, frozenset({1, 2})).incomplete() == ["r3", "r4"]
    assert State(4, frozenset({4})).incomplete() == []


def test_it_goes_back_to_the_first_commit() -> None:
    assert State(3).incomplete() == ["r1", "r2", "r3"]


def test_it_ends_where_prune_ended_history() -> None:
    """Also while prune has deleted the record of a manifest and not yet the manifest."""
    state = State(4)
    state.end_history_at("r3")
    assert state.incomplete() == ["r3", "r4"]
    state.delete("manifests/r2.json")
    assert state.incomplete() == ["r3", "r4"]


def test_it_survives_a_prune_that_overtakes_it() -> None:
    state = State(4)
    state.delete("manifests/r2.json")
    assert state.incomplete() == ["r3", "r4"]


def test_it_has_a_limit() -> None:
    runs = LOOK_BACK + 2
    assert State(runs).incomplete() == [f"r{number}" for number in range(3, runs + 1)]
