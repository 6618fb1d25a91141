"""What every store owes its callers, asked of every store: see storage/base.py.

moto stands in for AWS where it can. It does not compare x-amz-checksum-sha256 with the body and does not give
it back, nor does it survive being read while an object is overwritten: tests of these name REAL instead of ALL,
and `test_moto_verifies_nothing` keeps that honest.
"""

from __future__ import annotations

import hashlib
import io
import random
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from floodmark.errors import ConditionFailed, ObjectMissing, StorageError
from floodmark.events import ignore_event
from floodmark.storage import StorageOptions, open_storage
from floodmark.storage.base import Body, Condition, IfAbsent, IfMatch, Storage
from floodmark.storage.memory import MemoryStorage
from floodmark.storage.retry import RetryingStorage

REAL = ["memory", "local", "seaweedfs", "retrying"]
ALL = [*REAL, "moto"]
THREADS = 8

KEYS = [
    "plain.json",
    "data/database_name=a_b/table_name=c/extraction_timestamp=20261123010203Z/c-00000.jsonl.gz",
    "percent%20encoded/%2E%2E/%25",
    "with space/and + plus & and = equals",
    "ünïcode/名前/🌊",
    "quote'\"(){}[]<>^`|~!@#$,;:?*",
    "dots.../..a/a..",
]


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    match request.param:
        case "memory":
            return MemoryStorage()
        case "local":
            return open_storage(str(tmp_path / "root"), StorageOptions())
        case "seaweedfs" | "moto" as name:
            return _on_s3(request, "s3_bucket" if name == "seaweedfs" else "moto_bucket")
        case "retrying":
            return RetryingStorage(MemoryStorage(), ignore_event, sleep=lambda seconds: None)
    raise LookupError(request.param)


def _on_s3(request: pytest.FixtureRequest, fixture: str) -> Storage:
    return open_storage(f"{request.getfixturevalue(fixture).url}/a prefix/é%20", StorageOptions())


def stores(names: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("store", names, indirect=True)


def body(data: bytes) -> Body:
    return Body(io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def won(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except ConditionFailed:
        return False
    return True


def race(attempt: Callable[[int], object]) -> int:
    """How many of THREADS threads, let go at once, see their condition hold."""
    gate = threading.Barrier(THREADS)

    def run(number: int) -> bool:
        gate.wait()
        return won(lambda: attempt(number))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(run, range(THREADS)))


@stores(ALL)
def test_check_passes_and_leaves_nothing(store: Storage) -> None:
    store.check()
    assert list(store.list("")) == []


@stores(ALL)
@pytest.mark.parametrize("key", KEYS)
def test_what_is_put_is_there(store: Storage, key: str) -> None:
    etag = store.put(key, body(b"water"), IfAbsent())
    fetched, found = store.get(key), store.stat(key)
    assert (fetched.data, fetched.etag) == (b"water", etag)
    assert found is not None
    assert (found.size, found.etag) == (5, etag)
    with store.open(key) as stream:
        assert stream.read() == b"water"
    assert list(store.list("")) == [key]


@stores(ALL)
def test_an_empty_object_is_an_object(store: Storage) -> None:
    etag = store.put("empty", body(b""), IfAbsent())
    assert store.get("empty").data == b""
    assert won(lambda: store.put("empty", body(b""), IfAbsent())) is False
    assert won(lambda: store.put("empty", body(b"more"), IfMatch(etag)))


@stores(ALL)
def test_twenty_megabytes_from_a_file_come_back_as_a_stream(store: Storage) -> None:
    data = random.Random(0).randbytes(20 * 1024**2)
    with tempfile.SpooledTemporaryFile(max_size=1024) as spool:
        spool.write(data)  # left at its end: a put begins at the start
        store.put("big", Body(spool, len(data), hashlib.sha256(data).hexdigest()), IfAbsent())
    digest = hashlib.sha256()
    with store.open("big") as stream:
        while block := stream.read(123_457):
            digest.update(block)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()


@stores(ALL)
def test_a_body_may_be_put_again(store: Storage) -> None:
    same = body(b"again")
    store.put("one", same)
    store.put("two", same)
    assert store.get("two").data == b"again"


@stores(ALL)
def test_without_a_condition_the_last_put_stands(store: Storage) -> None:
    store.put("key", body(b"first"))
    store.put("key", body(b"second"))
    assert store.get("key").data == b"second"


@stores(ALL)
def test_if_absent_writes_once(store: Storage) -> None:
    store.put("key", body(b"first"), IfAbsent())
    with pytest.raises(ConditionFailed, match="key"):
        store.put("key", body(b"second"), IfAbsent())
    assert store.get("key").data == b"first"


@stores(ALL)
def test_if_match_writes_over_what_was_read_only(store: Storage) -> None:
    old = store.put("key", body(b"first"))
    new = store.put("key", body(b"other"), IfMatch(old))
    with pytest.raises(ConditionFailed):
        store.put("key", body(b"third"), IfMatch(old))
    assert store.get("key").data == b"other"
    assert won(lambda: store.put("key", body(b"third"), IfMatch(new)))


@stores(ALL)
def test_if_match_fails_where_nothing_is(store: Storage) -> None:
    etag = store.put("gone", body(b"x"))
    store.delete("gone")
    for key in ("gone", "never/was"):
        with pytest.raises(ConditionFailed):
            store.put(key, body(b"y"), IfMatch(etag))
        assert store.stat(key) is None


@stores(ALL)
@pytest.mark.parametrize("turn", range(2))
def test_of_many_writers_with_one_etag_one_wins(store: Storage, turn: int) -> None:
    etag = store.put("head.json", body(b"start"))
    assert race(lambda n: store.put("head.json", body(b"from %d" % n), IfMatch(etag))) == 1


@stores(ALL)
@pytest.mark.parametrize("turn", range(2))
def test_of_many_first_writers_one_wins(store: Storage, turn: int) -> None:
    assert race(lambda n: store.put("new/head.json", body(b"from %d" % n), IfAbsent())) == 1


@stores(REAL)
def test_no_increment_is_lost(store: Storage) -> None:
    store.put("count", body(b"0"))

    def increment() -> None:
        seen = store.get("count")
        store.put("count", body(b"%d" % (int(seen.data) + 1)), IfMatch(seen.etag))

    def until_won(_: int) -> None:
        while not won(increment):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(until_won, range(20)))
    assert store.get("count").data == b"20"


@stores(REAL)
def test_readers_never_see_a_part(store: Storage) -> None:
    whole = [bytes([letter]) * 300_000 for letter in b"ab"]
    store.put("key", body(whole[0]))

    def read(_: int) -> bool:
        return store.get("key").data in whole

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(store.put, "key", body(whole[n % 2])) for n in range(10)]
        assert all(pool.map(read, range(20)))
        assert all(future.result() for future in writing)


@stores(REAL)
@pytest.mark.parametrize("condition", [None, IfAbsent()])
def test_a_wrong_sha256_is_refused_and_nothing_written(store: Storage, condition: Condition) -> None:
    wrong = Body(io.BytesIO(b"lines"), 5, hashlib.sha256(b"other").hexdigest())
    with pytest.raises(StorageError):
        store.put("key", wrong, condition)
    assert store.stat("key") is None
    assert list(store.list("")) == []


@stores(ALL)
@pytest.mark.parametrize("size", [4, 6])
def test_a_wrong_size_is_refused_and_nothing_written(store: Storage, size: int) -> None:
    store.put("key", body(b"old"))
    with pytest.raises(StorageError):
        store.put("key", Body(io.BytesIO(b"lines"), size, hashlib.sha256(b"lines").hexdigest()))
    assert store.get("key").data == b"old"


@stores(["memory", "seaweedfs", "retrying"])  # local files keep no digest, moto gives none back
def test_stat_gives_the_sha256_that_was_put(store: Storage) -> None:
    store.put("key", body(b"water"))
    found = store.stat("key")
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"water").hexdigest()


@pytest.mark.parametrize("store", ["moto"], indirect=True)
def test_moto_verifies_nothing(store: Storage) -> None:
    store.put("key", Body(io.BytesIO(b"lines"), 5, hashlib.sha256(b"other").hexdigest()))
    found = store.stat("key")
    assert found is not None
    assert found.sha256 is None


@stores(ALL)
def test_what_is_not_there_is_missing(store: Storage) -> None:
    store.put("folder/key", body(b""))
    for key in ("nothing", "folder", "folder/other", "folder/key/below"):
        assert store.stat(key) is None
        for read in (store.get, store.open):
            with pytest.raises(ObjectMissing, match=key):
                read(key)
        store.delete(key)
    assert list(store.list("")) == ["folder/key"]


@stores(ALL)
def test_a_deleted_object_is_gone_and_may_come_back(store: Storage) -> None:
    store.put("a/b/key", body(b"first"), IfAbsent())
    store.delete("a/b/key")
    store.delete("a/b/key")
    assert store.stat("a/b/key") is None
    store.put("a/b/key", body(b"second"), IfAbsent())
    assert store.get("a/b/key").data == b"second"


@stores(ALL)
def test_list_gives_every_key_below_a_prefix_once(store: Storage) -> None:
    keys = [f"{folder}/key-{number}" for folder in ("a", "ab", "a b") for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put(key, body(b"")), keys))
    assert sorted(store.list("")) == sorted(keys)
    assert sorted(store.list("a/")) == ["a/key-0", "a/key-1", "a/key-2"]
    assert sorted(store.list("a")) == sorted(keys)
    assert sorted(store.list("ab/key-1")) == ["ab/key-1"]
    assert list(store.list("nothing/here")) == []


@stores(ALL)
def test_url_names_the_place_and_errors_name_the_key(store: Storage) -> None:
    assert ":" in store.url or store.url.startswith("/")
    with pytest.raises(ObjectMissing) as caught:
        store.get("some/key")
    assert "some/key" in str(caught.value)


@stores(ALL)
def test_a_put_that_ended_leaves_nothing_unfinished(store: Storage) -> None:
    store.put("data/a", body(b"one"), IfAbsent())
    assert not won(lambda: store.put("data/a", body(b"two"), IfAbsent()))
    assert list(store.unfinished(datetime.now(UTC) + timedelta(days=1))) == []
    store.discard(".floodmark-" + "0" * 32)
    assert store.get("data/a").data == b"one"
