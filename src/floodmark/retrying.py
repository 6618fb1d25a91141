"""The one retry policy: the number of tries, the waits between them, and an event for each retry.

Only this module knows the library that waits. A caller says what can pass, how long to wait for it, and what it tries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from msgspec import Struct
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, stop_never
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_exponential, wait_random, wait_random_exponential

from floodmark.errors import FloodmarkError
from floodmark.events import Observer, Retried, ignore_event

Sleep = Callable[[float], object]
Result = TypeVar("Result")


class RetryPolicy(Protocol):
    """A function that calls another one until it succeeds, fails for good, or used up the patience."""

    def __call__(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result: ...


class Patience(Struct, frozen=True):
    """The number of tries, and the waits between them. All times are seconds.

    `tries` and `deadline` (counted from the first try) end the retries; None sets no limit. A wait begins with
    `shortest` and doubles up to `longest`. Up to `jitter` is added to each wait, so that many workers do not come back
    at once. With `spread`, a wait is a random part of that time, which suits writers that collide.

    With the defaults a store can be unavailable for half a minute.
    """

    tries: int | None = 7
    shortest: float = 0.5
    longest: float = 15.0
    jitter: float = 0.5
    deadline: float | None = None
    spread: bool = False


def pause(seconds: float) -> None:
    """Sleep for this time."""
    time.sleep(seconds)  # looked up now, so that tests can replace it


def never() -> bool:
    """Return False: nobody asks to stop."""
    return False


def retrying(
    action: str,
    passes: Callable[[BaseException], bool],
    observer: Observer = ignore_event,
    patience: Patience = Patience(),  # noqa: B008 - frozen
    *,
    sleep: Sleep = pause,
    stopping: Callable[[], bool] = never,
) -> RetryPolicy:
    """Return a policy. Call it with a function and its arguments; it returns the result or raises the last error.

    `passes` tells if an error can pass. `action` names the action in the event `Retried`, which the observer receives
    before each wait. If `stopping` is true after a failed try, that error is raised. `sleep` can end early, like
    `Event.wait`: one more try follows.
    """

    def tell(state: RetryCallState) -> None:
        observer(Retried(action, _reason(state), state.attempt_number))

    def can_pass(error: BaseException) -> bool:
        return not stopping() and passes(error)

    def policy() -> Retrying:
        return Retrying(
            retry=retry_if_exception(can_pass),
            stop=_limits(patience),
            wait=_waits(patience),
            before_sleep=tell,
            sleep=cast(Callable[[float], None], sleep),
            reraise=True,
        )

    return policy() if patience.deadline is not None else _TryFirst(policy, can_pass)


class _TryFirst(Struct, frozen=True):
    """A policy that makes its first try itself. Most tries succeed, and a thousand objects need a thousand policies.

    An error that can't pass is raised at once. The library that waits would keep it in a cycle, and with it all that
    the callers hold, such as a large manifest, until the garbage is collected.
    """

    policy: Callable[[], Retrying]
    can_pass: Callable[[BaseException], bool]

    def __call__(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
        try:
            return fn(*args, **kwargs)
        except BaseException as error:
            if not self.can_pass(error):
                raise
            failed = [error]  # the policy decides how often to try, as if this try had been its own

        def again() -> Result:
            if failed:
                raise failed.pop()
            return fn(*args, **kwargs)

        return self.policy()(again)


def _limits(patience: Patience) -> stop_base:
    tries = stop_never if patience.tries is None else stop_after_attempt(patience.tries)
    return tries if patience.deadline is None else tries | stop_after_delay(patience.deadline)


def _waits(patience: Patience) -> wait_base:
    if patience.spread:
        return wait_random_exponential(patience.shortest, patience.longest)
    return wait_exponential(patience.shortest, patience.longest) + wait_random(0, patience.jitter)


def _reason(state: RetryCallState) -> str:
    """Return why a try failed. An error that is not ours can hold anything, so only its class is shown."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, FloodmarkError):
        return error.why or error.sentence
    return type(error).__name__
