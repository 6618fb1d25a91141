"""What a folder owes beyond the contract: durability, other processes, a full disk, nothing outside its root."""

from __future__ import annotations

import errno
import io
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fix_child import Child
from floodmark.errors import ConditionFailed, ObjectMissing, OutcomeUnknown, StorageDenied, StorageError
from floodmark.storage.base import Body, Condition, IfAbsent, IfMatch
from floodmark.storage.local import LocalStorage
from floodmark.storage.probe import body_of

INCREMENT = """
import sys
from pathlib import Path
from floodmark.errors import ConditionFailed
from floodmark.storage.base import IfMatch
from floodmark.storage.local import LocalStorage
from floodmark.storage.probe import body_of

store, left = LocalStorage(Path(sys.argv[1])), int(sys.argv[2])
while left:
    seen = store.get("count")
    try:
        store.put("count", body_of(b"%d" % (int(seen.data) + 1)), IfMatch(seen.etag))
    except ConditionFailed:
        continue
    left -= 1
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> LocalStorage:
    return LocalStorage(root)


def everything(root: Path) -> set[str]:
    """All files below, those too that are no objects, save for the lock."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {".floodmark-lock"}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system itself refuses to write more than so many bytes to one file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anywhere: become nobody for a while. Anyone else stays who they are."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "./a", "a/./b", "a//b", "a/", "/a", "a\0b"),
        *(".floodmark-lock", "a/.floodmark-0123/b"),
    ],
)
def test_no_key_leads_out_of_the_root_or_to_what_is_not_an_object(store: LocalStorage, key: str) -> None:
    store.put("a/b", body_of(b""))
    for use in (store.get, store.open, store.stat, store.delete, lambda k: store.put(k, body_of(b"x"))):
        with pytest.raises(StorageError, match="not a path in the folder"):
            use(key)
    assert everything(store._root.parent) == {"root/a/b", "root/.floodmark-lock"}


def test_unfinished_files_are_not_listed(store: LocalStorage, root: Path) -> None:
    store.put("a/b", body_of(b""))
    (root / "a" / ".floodmark-left-by-a-crash").write_bytes(b"half")
    assert list(store.list("")) == list(store.list("a/")) == ["a/b"]


def test_objects_are_as_readable_as_the_umask_has_it(store: LocalStorage, root: Path) -> None:
    was = os.umask(0o027)
    try:
        store.put("key", body_of(b""))
    finally:
        os.umask(was)
    assert (root / "key").stat().st_mode & 0o777 == 0o640


def test_an_etag_changes_with_each_put_of_the_same_bytes(store: LocalStorage) -> None:
    etags = [store.put("key", body_of(b"same")) for _ in range(100)]
    assert len(set(etags)) == len(etags)


def test_an_object_s_time_is_finer_than_the_ticks_of_older_kernels(
    store: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick an inode may be used again: then only the time tells two objects of one size apart."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_234_567_890_123_456_789)
    store.put("key", body_of(b"x"))
    assert (root / "key").stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_an_object_edited_by_hand_no_longer_matches(store: LocalStorage, root: Path) -> None:
    etag = store.put("key", body_of(b"ours"))
    (root / "key").write_bytes(b"MINE")
    with pytest.raises(ConditionFailed):
        store.put("key", body_of(b"next"), IfMatch(etag))


def test_no_increment_of_other_processes_is_lost(store: LocalStorage, root: Path) -> None:
    store.put("count", body_of(b"0"))
    command = [sys.executable, "-c", INCREMENT, str(root), "25"]
    processes = [Child(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert store.get("count").data == b"75"


def test_a_delete_that_clears_folders_harms_no_put(store: LocalStorage, root: Path) -> None:
    def churn(number: int) -> None:
        for _ in range(100):
            store.put(f"deep/down/{number}", body_of(b""), IfAbsent())
            store.delete(f"deep/down/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert [path.name for path in root.iterdir()] == [".floodmark-lock"]


def test_a_folder_taken_away_in_the_middle_of_a_put_is_made_again(root: Path) -> None:
    class Pruned(LocalStorage):
        pruned = False

        def _make(self, folder: Path) -> None:
            super()._make(folder)
            if folder.name == "b" and not self.pruned:
                self.pruned = True
                folder.rmdir()

    Pruned(root).put("a/b/key", body_of(b"x"))
    assert (root / "a/b/key").read_bytes() == b"x"


def test_bytes_names_and_folders_are_synced_in_this_order(
    store: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def name(handle: int) -> str:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        return "bytes" if path.name.startswith(".floodmark-") else str(path.relative_to(root.parent))

    def spy(name_of: str, call: Callable[..., None], label: Callable[..., str]) -> None:
        monkeypatch.setattr(os, name_of, lambda *a, **k: (done.append(label(*a)), call(*a, **k))[1])

    spy("fsync", os.fsync, lambda handle: f"sync {name(handle)}")
    spy("link", os.link, lambda source, target: f"link {target.name}")
    store.put("a/b/key", body_of(b""), IfAbsent())
    assert done == ["sync bytes", "link key", "sync root/a/b", "sync root/a", "sync root", "sync ."]
    done.clear()
    store.put("a/b/other", body_of(b""), IfAbsent())
    assert done == ["sync bytes", "link other", "sync root/a/b"]
    another_process = LocalStorage(root)
    for key in ("a/b/key", "a/b/other"):
        another_process.delete(key)  # and the folders, which are made again
    done.clear()
    store.put("a/b/key", body_of(b""), IfAbsent())
    assert done == ["sync bytes", "link key", "sync root/a/b", "sync root/a", "sync root"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageError),
        (errno.EDQUOT, StorageError),
        (errno.EIO, StorageError),
        (errno.EACCES, StorageDenied),
        (errno.EROFS, StorageDenied),
    ],
)
@pytest.mark.parametrize("condition", [None, IfAbsent()])
def test_a_failing_disk_is_named_and_leaves_nothing(
    store: LocalStorage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[StorageError],
    condition: Condition,
) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, "CANARY")

    store.put("other", body_of(b""))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=rf"root/key: {errno.errorcode[number]}") as caught:
        store.put("key", body_of(b"x"), condition)
    assert type(caught.value) is kind
    assert not caught.value.retryable
    assert "CANARY" not in str(caught.value)
    assert everything(root) == {"other"}


@pytest.mark.parametrize(("condition", "kind"), [(None, StorageError), (IfAbsent(), OutcomeUnknown)])
def test_a_folder_that_can_not_be_synced_after_the_move_is_no_failed_write(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch, condition: Condition, kind: type[StorageError]
) -> None:
    calls, sync = iter(["bytes", "folder"]), os.fsync

    def fail_later(handle: int) -> None:
        if next(calls) == "folder":
            raise OSError(errno.EIO, "")
        sync(handle)

    store.put("other", body_of(b""))
    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises(StorageError, match="EIO") as caught:
        store.put("key", body_of(b"x"), condition)
    assert type(caught.value) is kind
    assert store.get("key").data == b"x"


def test_an_object_that_does_not_fit_leaves_the_old_one_whole(store: LocalStorage, root: Path) -> None:
    store.put("key", body_of(b"old"))
    with largest_file(1024**2), pytest.raises(StorageError, match="EFBIG"):
        store.put("key", body_of(bytes(3 * 1024**2)))
    assert store.get("key").data == b"old"
    assert everything(root) == {"key"}


def test_a_folder_of_someone_else_is_denied() -> None:
    with tempfile.TemporaryDirectory(prefix="floodmark-denied-") as folder:
        root = Path(folder)
        LocalStorage(root).put("key", body_of(b"x"))
        root.chmod(0o555)
        store = LocalStorage(root)
        with unprivileged():
            for use in (
                lambda: store.put("a/b", body_of(b"x")),
                lambda: store.put("key", body_of(b"x"), IfMatch("x")),
                lambda: store.delete("key"),
                store.check,
                store.check_writable,
            ):
                with pytest.raises(StorageDenied, match="EACCES") as refusal:
                    use()
                assert refusal.value.hint == "The user Floodmark runs as needs to write there."
            assert store.get("key").data == b"x"
        root.chmod(0o700)


def test_an_unreadable_object_is_denied_not_missing() -> None:
    """And what is wanted is the right to read."""
    with tempfile.TemporaryDirectory(prefix="floodmark-denied-") as folder:
        Path(folder).chmod(0o755)
        store = LocalStorage(Path(folder))
        store.put("key", body_of(b"x"))
        store.put("closed/key", body_of(b"x"))
        for closed in ("key", "closed"):
            (Path(folder) / closed).chmod(0)
        with unprivileged():
            for read, key in (
                (store.get, "key"),
                (store.open, "key"),
                (store.get, "closed/key"),
                (store.stat, "closed/key"),
                (store.list, "closed/"),
            ):
                with pytest.raises(StorageDenied, match="EACCES") as refusal:
                    read(key)
                assert refusal.value.hint == "The user Floodmark runs as needs to read there."
        (Path(folder) / "closed").chmod(0o755)


def test_a_root_that_is_a_file_is_an_error(root: Path) -> None:
    root.write_bytes(b"")
    store = LocalStorage(root)
    with pytest.raises(StorageError, match="ENOTDIR"):
        store.put("key", body_of(b""))
    with pytest.raises(StorageError, match="ENOTDIR"):
        list(store.list(""))
    with pytest.raises(ObjectMissing):
        store.get("key")


def test_a_name_too_long_is_an_error(store: LocalStorage) -> None:
    with pytest.raises(StorageError, match="ENAMETOOLONG"):
        store.put("x" * 300, body_of(b""))


def test_a_read_that_fails_midway_is_a_storage_error(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("key", body_of(b"x"))
    with store.open("key") as stream:
        raw = stream.raw._stream  # type: ignore[attr-defined]
        os.close(raw.fileno())
        with pytest.raises(StorageError, match="EBADF"):
            stream.read()
        os.dup2(os.open(os.devnull, os.O_RDONLY), raw.fileno())


def test_a_body_that_shrinks_while_it_is_read_is_refused(store: LocalStorage, root: Path) -> None:
    whole = body_of(b"0123456789")
    with pytest.raises(StorageError, match="announced"):
        store.put("key", Body(io.BytesIO(b"01234"), whole.size, whole.sha256), IfAbsent())
    assert everything(root) == set()


def test_a_lock_held_elsewhere_is_waited_for(store: LocalStorage) -> None:
    store.put("key", body_of(b"first"))
    done = threading.Event()
    with store._locked():
        thread = threading.Thread(target=lambda: (store.put("key", body_of(b"second")), done.set()))
        thread.start()
        assert not done.wait(0.1)
        assert store.get("key").data == b"first"
    thread.join()
    assert store.get("key").data == b"second"


def test_a_folder_that_can_t_be_made_is_told_as_such() -> None:
    """The kernel makes no folder below /proc, and says of each that it does not exist."""
    with pytest.raises(StorageError, match=r"/proc: no folder can be made here \(ENOENT\)") as caught:
        LocalStorage(Path("/proc/lake")).put("data/a", body_of(b"a"))
    assert caught.value.hint == "Choose another place."


def test_a_link_that_leads_nowhere_is_told_as_such(root: Path, store: LocalStorage) -> None:
    root.mkdir()
    (root / "data").symlink_to(root / "gone")
    for key in ("data/a", "data/b/c"):
        with pytest.raises(StorageError, match="data: it is a symbolic link to a missing target"):
            store.put(key, body_of(b"a"))


def test_a_folder_that_others_keep_removing_is_told_as_such(
    root: Path, store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = store._make

    def make_in_vain(folder: Path) -> None:
        make(folder)
        if folder.name == "data":
            folder.rmdir()

    monkeypatch.setattr(store, "_make", make_in_vain)
    with pytest.raises(StorageError, match="data: another process removes the folder as often as it is made"):
        store.put("data/a", body_of(b"a"))
