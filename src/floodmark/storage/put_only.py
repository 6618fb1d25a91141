"""A destination whose receiver takes each object away: Floodmark only puts objects there and never reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import BinaryIO, NoReturn

from floodmark.errors import StorageError
from floodmark.storage.base import Body, Condition, Fetched, Stat, Storage


class PutOnlyStorage:
    """A store that passes on only unconditional puts. Every other call is an error before any request is made.

    `check` proves what it can without a put, because the receiver would take the object for data.
    """

    def __init__(self, inner: Storage, check: Callable[[], None]) -> None:
        self._inner, self._check = inner, check

    @property
    def url(self) -> str:
        return self._inner.url

    def check(self) -> None:
        self._check()

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        if condition is not None:
            self._refuse("put an object on a condition", key)
        return self._inner.put(key, body)

    def get(self, key: str) -> Fetched:
        self._refuse("read an object", key)

    def open(self, key: str) -> BinaryIO:
        self._refuse("read an object", key)

    def stat(self, key: str) -> Stat | None:
        self._refuse("look at an object", key)

    def delete(self, key: str) -> None:
        self._refuse("delete an object", key)

    def list(self, prefix: str) -> Iterator[str]:
        self._refuse("list objects", prefix)

    def unfinished(self, before: datetime) -> Iterator[str]:
        self._refuse("list what puts left behind", "")

    def discard(self, name: str) -> None:
        self._refuse("delete what a put left behind", name)

    def _refuse(self, what: str, key: str) -> NoReturn:
        raise StorageError(
            f"can't {what}",
            on=f"{self.url}/{key}",
            why="a landing zone's objects belong to its receiver",
            hint="State must live elsewhere: --state names where.",
        )
