"""Every error Floodmark raises, and the exit code each one ends the program with.

    FloodmarkError                 1    an internal error, when raised as such
    ├── UsageError                 2    the command line is wrong
    ├── ConfigError               10    a setting is missing, unknown, of the wrong type or contradictory
    │   ├── SourceMismatch        10    the state belongs to another database (see --adopt-source)
    │   └── DoesNotFit            10    a value has no exact counterpart in the type a consumer wants (see --text)
    ├── Conflict                  11    another run won, and ours could not be rebased onto it
    ├── SourceError               12    the database refused, broke or is not supported
    │   ├── SourceUnavailable           … it can't be reached, or the connection broke; a retry is safe
    │   ├── SnapshotLost                … the snapshot no longer shows what it should; take a new one
    │   └── TableError                  … one table can't be read; the others can
    │       └── TableLocked             … another session keeps it locked
    ├── StorageError              13    the destination or the state store refused or broke
    │   ├── StorageUnavailable          … timeout, reset, 5xx; a retry is safe
    │   ├── StorageDenied               … the credentials do not suffice
    │   ├── ObjectMissing               … no object at that key
    │   ├── ConditionFailed             … If-Match / If-None-Match did not hold, for certain
    │   ├── OutcomeUnknown              … a conditional write may or may not have taken effect
    │   ├── NoConditionalWrites         … the store ignores conditions
    │   └── StateUnreadable             … what lies in the state store is not what Floodmark wrote
    ├── VerificationFailed        14    objects, manifest and database do not agree
    └── Stopped               130/143   SIGINT or SIGTERM

An error says what was attempted, on what, why it failed, and what to do. None ever carries a row's
value or a secret: adapters translate a driver's error into class and code, never its text.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0
EXIT_PARTIAL = 3
EXIT_PLAN_HAS_WORK = 20


class FloodmarkError(Exception):
    """An error with the four parts a reader needs.

    `what` was attempted, `on` which object, `why` it failed, and a `hint` at what to do; all but the
    first may be None. `retryable` says whether the same call may be made again as it is.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, on: str | None = None, why: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, on, why, hint)
        self.what, self.on, self.why, self.hint = what, on, why, hint

    @property
    def sentence(self) -> str:
        """What, on what and why, in one line, without the hint."""
        return ": ".join(part for part in (self.what, self.on, self.why) if part)

    def __str__(self) -> str:
        return self.sentence if self.hint is None else f"{self.sentence}\n  {self.hint}"


class UsageError(FloodmarkError):
    """The command line can't be understood."""

    exit_code = 2


class ConfigError(FloodmarkError):
    """A setting is missing, unknown, of the wrong type, or contradicts another."""

    exit_code = 10


class SourceMismatch(ConfigError):
    """The state belongs to another database."""


class DoesNotFit(ConfigError):
    """A value has no exact counterpart in the type that a consumer wants it as."""


class Conflict(FloodmarkError):
    """Another run committed first, and ours could not be rebased onto it."""

    exit_code = 11


class SourceError(FloodmarkError):
    """The source refused, broke, or is of a kind that is not supported."""

    exit_code = 12


class SourceUnavailable(SourceError):
    """The source can't be reached, or the connection broke."""

    retryable = True


class SnapshotLost(SourceError):
    """The snapshot is gone, or shows a table that was rewritten after it: only a new snapshot helps."""


class TableError(SourceError):
    """One table can't be read; the others can. `code` is the reason code its entry gets."""

    def __init__(
        self,
        what: str,
        *,
        code: str = "failed",
        on: str | None = None,
        why: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, on=on, why=why, hint=hint)
        self.code = code


class TableLocked(TableError):
    """Another session kept the table locked for as long as is waited for a lock."""


class StorageError(FloodmarkError):
    """The destination or the state store refused or broke."""

    exit_code = 13


class StorageUnavailable(StorageError):
    """A timeout, a reset, a 5xx or a throttle: the same request may be sent again."""

    retryable = True


class StorageDenied(StorageError):
    """The credentials do not suffice for this request."""


class ObjectMissing(StorageError):
    """There is no object at that key."""


class ConditionFailed(StorageError):
    """If-Match or If-None-Match did not hold: another writer was there, for certain."""


class OutcomeUnknown(StorageError):
    """A conditional write was sent more than once, or its answer was lost: it may have taken effect."""


class NoConditionalWrites(StorageError):
    """The store accepts conditional writes but ignores the condition."""


class StateUnreadable(StorageError):
    """What lies in the state store is damaged, of an unknown version, or not Floodmark's."""


class VerificationFailed(FloodmarkError):
    """Objects, manifest and database do not agree."""

    exit_code = 14


class Stopped(FloodmarkError):
    """The run was told to stop by a signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped", why="interrupted" if signal_number == 2 else "terminated")
        self.signal_number = signal_number

    @property
    def code(self) -> int:
        """128 + the signal's number, as shells have it."""
        return 128 + self.signal_number


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error ends the program with."""
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(2)
    if isinstance(error, Stopped):
        return error.code
    return error.exit_code if isinstance(error, FloodmarkError) else FloodmarkError.exit_code
