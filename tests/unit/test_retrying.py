"""The retry policy: which errors are retried, the waits, the deadline, and the events."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import suppress

import pytest

from floodmark.errors import SourceUnavailable, StorageUnavailable
from floodmark.events import Event, Retried
from floodmark.retrying import Patience, RetryPolicy, retrying


class Failing:
    """A function that raises these errors, one a call, and then returns its argument."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = [*errors]
        self.calls = 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return value


DOWN = StorageUnavailable("put", on="key", why="HTTP 503")


def test_the_result_is_returned_and_each_retry_is_an_event() -> None:
    events: list[Event] = []
    slept: list[float] = []
    errors = (DOWN, SourceUnavailable("it broke", on="a table"), KeyError("a value"))
    policy = retrying("copy", lambda error: True, events.append, sleep=slept.append)
    assert policy(Failing(*errors), 7) == 7
    # An error that is not ours can hold a row's value, so its text is not shown.
    reasons = ["HTTP 503", "it broke: a table", "KeyError"]
    assert events == [Retried("copy", why, number) for number, why in enumerate(reasons, 1)]
    assert len(slept) == 3


def test_an_error_that_can_not_pass_is_raised_at_once() -> None:
    call = Failing(DOWN)
    with pytest.raises(StorageUnavailable):
        retrying("copy", lambda error: False)(call, 7)
    assert call.calls == 1


def test_spread_waits_are_random_parts_of_doubled_times() -> None:
    slept: list[float] = []
    patience = Patience(tries=8, shortest=1, longest=10, spread=True)
    with pytest.raises(StorageUnavailable):
        retrying("copy", lambda error: True, patience=patience, sleep=slept.append)(Failing(*[DOWN] * 9), 7)
    assert len(slept) == 7
    assert all(0 <= wait <= top for wait, top in zip(slept, [1, 2, 4, 8, 10, 10, 10], strict=True))


def fixed(deadline: float, stop: threading.Event) -> RetryPolicy:
    """Return a policy with fixed waits up to a deadline, which an event interrupts."""
    patience = Patience(tries=None, deadline=deadline, shortest=5, longest=5, jitter=0)
    return retrying("connect", lambda error: True, patience=patience, sleep=stop.wait, stopping=stop.is_set)


def test_a_deadline_ends_the_retries() -> None:
    call = Failing(*[DOWN] * 9)
    slept: list[float] = []
    patience = Patience(tries=None, deadline=0, shortest=5, longest=5, jitter=0)
    with pytest.raises(StorageUnavailable):
        retrying("connect", lambda error: True, patience=patience, sleep=slept.append)(call, 7)
    assert call.calls == 1 and slept == []


def test_an_event_interrupts_the_wait() -> None:
    """The wait of five seconds ends at once, and one more try is made."""
    stop = threading.Event()
    call = Failing(*[DOWN] * 9)
    begun = time.monotonic()
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(StorageUnavailable):
        fixed(60, stop)(call, 7)
    assert call.calls == 2 and time.monotonic() - begun < 3


def test_fixed_waits_do_not_grow() -> None:
    slept: list[float] = []
    patience = Patience(tries=5, shortest=5, longest=5, jitter=0)
    assert retrying("connect", lambda error: True, patience=patience, sleep=slept.append)(Failing(*[DOWN] * 4), 7) == 7
    assert slept == [5, 5, 5, 5]


def test_an_error_that_can_not_pass_leaves_nothing_for_the_garbage_collector() -> None:
    """A cycle with its frames would keep all that the callers hold, such as a manifest of 10 TB."""

    class Large:
        pass

    def hold() -> weakref.ref[Large]:
        large = Large()
        with suppress(KeyError):
            retrying("x", lambda error: False)({}.__getitem__, "missing")
        return weakref.ref(large)

    gc.collect()
    gc.disable()
    try:
        assert hold()() is None
    finally:
        gc.enable()
