"""A folder that keeps the promises of S3: whole objects, durable when put, conditions checked in one step.

A put writes the object to a temporary file in the same folder and syncs it. It then links the file to its place (if no
object may exist there) or renames it. Then it syncs the folder, and the parents of each folder that it made on the way:
by then, a file system has usually written them. Every operation that checks a condition or removes an object holds the
lock of the root, so two processes on one machine exclude each other. On a network file system this holds as far as its
locks do. A crash can leave a temporary file, never part of an object. Prune sweeps it, and so does a later load into
the folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from floodmark.errors import ConditionFailed, OutcomeUnknown, StorageError
from floodmark.storage.base import Body, Condition, Fetched, IfAbsent, IfMatch, Stat
from floodmark.storage.local_errors import NOT_THERE, not_made, reads, translated
from floodmark.storage.probe import prove_conditions
from floodmark.storage.streams import BLOCK, not_as_announced, reader

# No key has a segment that begins with this: the lock and the unfinished files can't be mistaken for objects.
_OWN = ".floodmark-"
_UNFINISHED = re.compile(re.escape(_OWN) + "[0-9a-f]{32}")
_TRIES_AGAINST_PRUNE = 10


class LocalStorage:
    """Objects as files below `root`, which the first put creates. An etag is size, time and inode of a file."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._made: set[Path] = set()
        self._durable: set[Path] = set()

    @property
    def url(self) -> str:
        return str(self._root)

    def check(self) -> None:
        prove_conditions(self)

    def check_writable(self) -> None:
        """Write a temporary file, which is never an object. Raises StorageError."""
        with translated("write to the folder", self._root):
            temporary, file = self._temporary(self._root)
            file.close()
            temporary.unlink()

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        path = self._path(key)
        with translated("put an object", path):
            temporary, etag = self._written(path, body)
            try:
                self._move(temporary, path, condition)
            finally:
                temporary.unlink(missing_ok=True)
        self._settle(path, condition)
        return etag

    def get(self, key: str) -> Fetched:
        path = self._path(key)
        with reads(path), path.open("rb") as file:
            etag = _etag(os.fstat(file.fileno()))
            return Fetched(file.read(), etag)

    def open(self, key: str) -> BinaryIO:
        path = self._path(key)
        with reads(path):
            file = path.open("rb", buffering=0)
        return reader(file, lambda: translated("read an object", path, "read"))

    def stat(self, key: str) -> Stat | None:
        path = self._path(key)
        with translated("look at an object", path, "read"):
            found = _found(path)
        return None if found is None else Stat(found.st_size, _etag(found), None)

    def delete(self, key: str) -> None:
        """Remove an object, and the folders that become empty."""
        path = self._path(key)
        with translated("delete an object", path):
            if _found(path) is None:
                return
            with self._locked():
                path.unlink(missing_ok=True)
                _sync_folder(path.parent)
                self._remove_empty(path.parent)

    def list(self, prefix: str) -> Iterator[str]:
        above = prefix.rpartition("/")[0]
        folder = self._path(above) if above else self._root
        with translated("list objects", folder, "read"):
            found = [key for key in self._keys(folder) if key.startswith(prefix)]
        return iter(found)

    def unfinished(self, before: datetime) -> Iterator[str]:
        with translated("look for unfinished files", self._root, "read"):
            found = [path for path in self._temporaries() if _is_older(path, before)]
        return (path.relative_to(self._root).as_posix() for path in found)

    def discard(self, name: str) -> None:
        """Remove an unfinished file, and the folders that become empty."""
        path = self._root / name
        if not _UNFINISHED.fullmatch(path.name):
            raise StorageError("can't remove an unfinished file", on=str(path), why="its name is that of another file")
        with translated("remove an unfinished file", path), self._locked():
            path.unlink(missing_ok=True)
            self._remove_empty(path.parent)

    def _temporaries(self) -> Iterator[Path]:
        for folder, _, files in os.walk(self._root):  # a folder that may not be read holds none of ours
            yield from (Path(folder) / name for name in files if _UNFINISHED.fullmatch(name))

    def _keys(self, top: Path) -> Iterator[str]:
        for folder, _, files in os.walk(top, onerror=_raise_unless_gone):
            for name in files:
                if not name.startswith(_OWN):
                    yield (Path(folder) / name).relative_to(self._root).as_posix()

    def _path(self, key: str) -> Path:
        """Return the path of a key's file. Raises StorageError for a key that is no path below the root."""
        parts = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") or part.startswith(_OWN) for part in parts):
            raise StorageError("can't use a key as a path", on=repr(key), why="it is not a path in the folder")
        return self._root.joinpath(*parts)

    def _written(self, path: Path, body: Body) -> tuple[Path, str]:
        """Return a synced temporary file that holds the body, and the etag that it will have."""
        temporary, file = self._temporary(path.parent)
        try:
            with file:
                _copy(body, file, path)
                now = time.time_ns()  # finer than the clock that file systems stamp with
                os.utime(file.fileno(), ns=(now, now))
                os.fsync(file.fileno())
                return temporary, _etag(os.fstat(file.fileno()))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _temporary(self, folder: Path) -> tuple[Path, BinaryIO]:
        """Return a new file in a folder, which another process's `delete` might be removing at this moment."""
        temporary = folder / f"{_OWN}{uuid.uuid4().hex}"
        missing = temporary
        for _ in range(_TRIES_AGAINST_PRUNE):
            try:
                self._make(folder)
                return temporary, temporary.open("xb", buffering=0)
            except FileNotFoundError as error:
                missing = Path(error.filename)
        raise not_made(missing)

    def _make(self, folder: Path) -> None:
        """Make a folder and its parents."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        self._made.add(folder)
        self._durable.discard(folder)  # another process can have removed the one that was

    def _move(self, temporary: Path, path: Path, condition: Condition) -> None:
        with self._locked():
            match condition:
                case IfAbsent():
                    _link(temporary, path)
                case IfMatch(etag):
                    _require(path, etag)
                    temporary.replace(path)
                case None:
                    temporary.replace(path)

    def _settle(self, path: Path, condition: Condition) -> None:
        """Make a move durable. Once it is visible, a failure here does not mean that the write failed."""
        new = list(self._not_durable(path.parent))
        try:
            with translated("put an object", path):
                _sync_folder(path.parent)
                for folder in new:
                    _sync_folder(folder.parent)
        except StorageError as error:
            if condition is None:
                raise
            raise OutcomeUnknown(error.what, on=error.on, why=f"written, but not synced: {error.why}") from None
        self._durable.update(new)

    def _not_durable(self, folder: Path) -> Iterator[Path]:
        """Yield a folder and its parents, as far as a crash might undo that they were made."""
        while folder not in self._durable and (folder in self._made or self._root in folder.parents):
            yield folder
            folder = folder.parent

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the root's lock. It belongs to the open file, so threads exclude each other too."""
        with self._lock_file() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lock_file(self) -> BinaryIO:
        path = self._root / f"{_OWN}lock"
        try:
            return path.open("ab")
        except FileNotFoundError:
            self._root.mkdir(parents=True, exist_ok=True)
            return path.open("ab")

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root:
            self._durable.discard(folder)
            self._made.discard(folder)
            try:
                folder.rmdir()
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return
                raise
            folder = folder.parent


def _copy(body: Body, file: BinaryIO, path: Path) -> None:
    digest, size = hashlib.sha256(), 0
    body.stream.seek(0)
    while block := body.stream.read(BLOCK):
        digest.update(block)
        size += len(block)
        _write(file, block)
    if (size, digest.hexdigest()) != (body.size, body.sha256):
        raise not_as_announced(str(path))


def _write(file: BinaryIO, block: bytes) -> None:
    """Write all of a block: an unbuffered file can accept only a part of it."""
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise ConditionFailed("can't put an object", on=str(path), why="it exists already") from None


def _require(path: Path, etag: str) -> None:
    found = _found(path)
    if found is None or _etag(found) != etag:
        raise ConditionFailed("can't put an object", on=str(path), why="it changed since it was read")


def _found(path: Path) -> os.stat_result | None:
    try:
        found = path.stat()
    except NOT_THERE:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _is_older(path: Path, than: datetime) -> bool:
    """Return True if a file was last written before a moment. A file that is gone meanwhile does not count."""
    found = _found(path)
    return found is not None and found.st_mtime < than.timestamp()


def _etag(found: os.stat_result) -> str:
    return f'"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"'


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
