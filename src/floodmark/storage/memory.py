"""A store in memory: for tests, and as the simplest example of a store's obligations.

It fails at the points that a test chooses, before or after the effect, so that tests can replay lost answers.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import BinaryIO, Literal

from floodmark.errors import ConditionFailed, ObjectMissing, StorageUnavailable
from floodmark.storage.base import Body, Condition, Fetched, IfAbsent, IfMatch, Stat

Moment = Literal["before", "after"]
Faults = Callable[[str, str, Moment], None]


def no_faults(operation: str, key: str, moment: Moment) -> None:
    """Let every operation pass."""


class MemoryStorage:
    """Objects in a dictionary.

    `faults(operation, key, moment)` is called before an operation, and again after its effect. Its exception goes to
    the caller. It is called without the lock held, so it can use the store itself.
    """

    def __init__(self, url: str = "memory:", faults: Faults = no_faults) -> None:
        self._url = url
        self.faults = faults
        self._objects: dict[str, Fetched] = {}
        self._versions = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._url

    def check(self) -> None:
        self.faults("check", "", "before")
        self.faults("check", "", "after")

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        self.faults("put", key, "before")
        body.stream.seek(0)
        data = body.stream.read()
        if len(data) != body.size or hashlib.sha256(data).hexdigest() != body.sha256:
            raise StorageUnavailable("can't put an object", on=key, why="the body differs from what was announced")
        with self._lock:
            self._require(key, condition)
            self._versions += 1
            etag = f'"{self._versions}"'
            self._objects[key] = Fetched(data, etag)
        self.faults("put", key, "after")
        return etag

    def get(self, key: str) -> Fetched:
        self.faults("get", key, "before")
        found = self._found(key)
        self.faults("get", key, "after")
        return found

    def open(self, key: str) -> BinaryIO:
        self.faults("open", key, "before")
        found = self._found(key)
        self.faults("open", key, "after")
        return io.BytesIO(found.data)

    def stat(self, key: str) -> Stat | None:
        self.faults("stat", key, "before")
        with self._lock:
            found = self._objects.get(key)
        self.faults("stat", key, "after")
        if found is None:
            return None
        return Stat(len(found.data), found.etag, hashlib.sha256(found.data).hexdigest())

    def delete(self, key: str) -> None:
        self.faults("delete", key, "before")
        with self._lock:
            self._objects.pop(key, None)
        self.faults("delete", key, "after")

    def list(self, prefix: str) -> Iterator[str]:
        self.faults("list", prefix, "before")
        with self._lock:
            keys = [key for key in self._objects if key.startswith(prefix)]
        self.faults("list", prefix, "after")
        return iter(keys)

    def unfinished(self, before: datetime) -> Iterator[str]:
        """Yield nothing: an object appears as a whole."""
        return iter(())

    def discard(self, name: str) -> None:
        """Do nothing: there are no unfinished items."""

    def _found(self, key: str) -> Fetched:
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise ObjectMissing("can't read an object", on=key, why="it does not exist")
        return found

    def _require(self, key: str, condition: Condition) -> None:
        found = self._objects.get(key)
        match condition:
            case IfAbsent() if found is not None:
                raise ConditionFailed("can't write an object", on=key, why="it exists already")
            case IfMatch(etag) if found is None or found.etag != etag:
                raise ConditionFailed("can't write an object", on=key, why="it changed since it was read")
