"""Retries around any store, for errors that a retry can fix. An unknown outcome does not count as a failure.

After a lost answer, a conditional put that is sent again can be refused because of its own first try. Then the outcome
is unknown. The same holds for any final failure after a try went unanswered: only reading back can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import BinaryIO, TypeVar

from floodmark.errors import OutcomeUnknown, StorageError
from floodmark.events import Observer
from floodmark.retrying import Patience, Sleep, pause, retrying
from floodmark.storage.base import Body, Condition, Fetched, Stat, Storage

Result = TypeVar("Result")


class RetryingStorage:
    """A store that waits out passing errors: timeouts, resets, throttling, 5xx.

    `open` is tried again until it gives a stream. If a stream breaks midway, its reader opens it again.
    """

    def __init__(
        self,
        inner: Storage,
        observer: Observer,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        sleep: Sleep = pause,
    ) -> None:
        self._inner, self._observer = inner, observer
        self._patience, self._sleep = patience, sleep

    @property
    def url(self) -> str:
        return self._inner.url

    def check(self) -> None:
        self._patiently(f"check {self.url}", self._inner.check)

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        """Put like the wrapped store. A conditional put can also raise OutcomeUnknown."""
        if condition is None:
            return self._patiently(f"put {key}", lambda: self._inner.put(key, body))
        return self._put_on_condition(key, body, condition)

    def get(self, key: str) -> Fetched:
        return self._patiently(f"get {key}", lambda: self._inner.get(key))

    def open(self, key: str) -> BinaryIO:
        return self._patiently(f"open {key}", lambda: self._inner.open(key))

    def stat(self, key: str) -> Stat | None:
        return self._patiently(f"stat {key}", lambda: self._inner.stat(key))

    def delete(self, key: str) -> None:
        self._patiently(f"delete {key}", lambda: self._inner.delete(key))

    def list(self, prefix: str) -> Iterator[str]:
        """Read the whole listing before the first key is given, so that a repeated listing gives no key twice."""
        return iter(self._patiently(f"list {prefix}", lambda: [*self._inner.list(prefix)]))

    def unfinished(self, before: datetime) -> Iterator[str]:
        return iter(self._patiently("list what puts left behind", lambda: [*self._inner.unfinished(before)]))

    def discard(self, name: str) -> None:
        self._patiently(f"delete {name}", lambda: self._inner.discard(name))

    def _put_on_condition(self, key: str, body: Body, condition: Condition) -> str:
        unanswered = 0

        def once() -> str:
            nonlocal unanswered
            try:
                return self._inner.put(key, body, condition)
            except StorageError as error:
                if unanswered and not error.retryable:
                    raise _unknown(key, error) from error
                unanswered += error.retryable
                raise

        try:
            return self._patiently(f"put {key}", once)
        except StorageError as error:
            if error.retryable:
                raise _unknown(key, error) from error
            raise

    def _patiently(self, what: str, call: Callable[[], Result]) -> Result:
        return retrying(what, _may_pass, self._observer, self._patience, sleep=self._sleep)(call)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StorageError) and error.retryable


def _unknown(key: str, last: StorageError) -> OutcomeUnknown:
    return OutcomeUnknown(
        "can't put an object on a condition",
        on=key,
        why=f"a try went unanswered, and the last one ended with {type(last).__name__} ({last.why})",
        hint="It may or may not have been written. Read the object to find out.",
    )
