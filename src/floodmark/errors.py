"""The errors that Floodmark raises, and the exit code each one ends the program with.

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
    │   │   └── NoState                 … no run has ever begun, or committed, at that place
    │   ├── ConditionFailed             … If-Match / If-None-Match did not hold, for certain
    │   ├── OutcomeUnknown              … a conditional write may or may not have taken effect
    │   ├── NoConditionalWrites         … the store ignores conditions
    │   └── StateUnreadable             … what lies in the state store is not what Floodmark wrote
    ├── MessageError              13    a channel for notifications or completions refused a message
    │   └── MessageUnanswered         … it can't be reached, gave no answer, or 429, 5xx; a retry is safe
    ├── VerificationFailed        14    objects, manifest and database do not agree
    ├── LossRefused               15    more tables or rows are gone than the guards allow, or there is no table at all
    ├── EngineError               16    the cluster that does the work can't be reached, or broke
    └── Stopped               130/143   SIGINT or SIGTERM
        └── RunStopped              … a run that did not commit; its finished chunks are kept

An error says what was attempted, on what, why it failed, and what to do. No error ever carries a row's value or a
secret: adapters translate a driver's error into class and code, and never pass on its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

EXIT_OK = 0
EXIT_PARTIAL = 3
EXIT_DRIFT = 3
EXIT_PLAN_HAS_WORK = 20
EXIT_DIFFERENT = 20


class FloodmarkError(Exception):
    """An error with the four parts that a reader needs.

    `what` was attempted, `on` which object, `why` it failed, and a `hint` with the next step. All but the first can be
    None. `retryable` says if the same call can be repeated unchanged.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, on: str | None = None, why: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, on, why, hint)
        self.what, self.on, self.why, self.hint = what, on, why, hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle needs: an error can come from another machine. Its attributes hold all of it."""
        return _unpickled, (type(self), self.args), self.__dict__

    @property
    def sentence(self) -> str:
        """Return the attempted action, the object and the cause in one line, without the hint."""
        return ": ".join(part for part in (self.what, self.on, self.why) if part)

    def __str__(self) -> str:
        return self.sentence if self.hint is None else f"{self.sentence}\n  {self.hint}"


def _unpickled(kind: type[FloodmarkError], args: tuple[Any, ...]) -> FloodmarkError:
    """Return an error without its attributes, which pickle adds. The constructors take other arguments."""
    return kind.__new__(kind, *args)


class UsageError(FloodmarkError):
    """A command line that can't be understood."""

    exit_code = 2


class ConfigError(FloodmarkError):
    """A setting that is missing, unknown, of the wrong type, or that contradicts another."""

    exit_code = 10


class SourceMismatch(ConfigError):
    """A state that belongs to another database."""


class DoesNotFit(ConfigError):
    """A value without an exact counterpart in the type that a consumer wants.

    `columns` are the names of the columns with such values. It is empty if no single column is the cause.
    """

    def __init__(
        self,
        what: str,
        *,
        columns: Sequence[str] = (),
        on: str | None = None,
        why: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, on=on, why=why, hint=hint)
        self.columns = tuple(columns)


class Conflict(FloodmarkError):
    """A commit by another run that came first, onto which this run could not be rebased."""

    exit_code = 11


class SourceError(FloodmarkError):
    """A source that refused, broke, or is of an unsupported kind."""

    exit_code = 12


class SourceUnavailable(SourceError):
    """A source that can't be reached, or a broken connection."""

    retryable = True


class SnapshotLost(SourceError):
    """A snapshot that is gone, or that shows a table that was rewritten after it. Only a new snapshot helps."""


class TableError(SourceError):
    """A table that can't be read, while others can. `code` is the reason code that its entry gets."""

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
    """A table that another session kept locked for the whole lock timeout."""


class StorageError(FloodmarkError):
    """A destination or a state store that refused or broke."""

    exit_code = 13


class StorageUnavailable(StorageError):
    """A timeout, a reset, a 5xx response or throttling. The same request can be sent again."""

    retryable = True


class StorageDenied(StorageError):
    """Credentials that are not sufficient for this request."""


class ObjectMissing(StorageError):
    """A key without an object."""


class NoState(ObjectMissing):
    """A place where no run has ever begun, or, for a reader, where none has committed yet."""


class ConditionFailed(StorageError):
    """An If-Match or If-None-Match condition that did not hold: another writer certainly wrote there."""


class OutcomeUnknown(StorageError):
    """A conditional write that was sent more than once, or whose answer was lost. It might have taken effect."""


class NoConditionalWrites(StorageError):
    """A store that accepts conditional writes but ignores the condition."""


class StateUnreadable(StorageError):
    """A document in the state store that is damaged, of an unknown version, or not Floodmark's."""


class MessageError(FloodmarkError):
    """A channel that refused a message. The error holds neither its address nor its answer's text."""

    exit_code = 13


class MessageUnanswered(MessageError):
    """A channel that can't be reached or gave no useful answer. It might get the message twice after a retry."""

    retryable = True


class VerificationFailed(FloodmarkError):
    """A disagreement between objects, manifest and database."""

    exit_code = 14


class LossRefused(FloodmarkError):
    """A run that would lose more tables or rows than the guards allow, or that finds no table at all."""

    exit_code = 15


class EngineError(FloodmarkError):
    """A cluster that can't be reached, has no workers, or lost its scheduler or too many workers."""

    exit_code = 16


class Stopped(FloodmarkError):
    """A signal that told the command to stop. The hint says what the command left, and how to go on."""

    def __init__(self, signal_number: int, left: str | None = None) -> None:
        super().__init__("stopped", why="interrupted" if signal_number == 2 else "terminated", hint=left)
        self.signal_number = signal_number

    @property
    def code(self) -> int:
        """Return 128 + the signal's number, as shells do."""
        return 128 + self.signal_number


class RunStopped(Stopped):
    """A run that a signal ended before its commit. The next run continues from the kept chunks, out of all `chunks`."""

    def __init__(self, signal_number: int, left: str, kept_chunks: int, chunks: int) -> None:
        super().__init__(signal_number, left)
        self.kept_chunks, self.chunks = kept_chunks, chunks


def exit_code_of(error: BaseException) -> int:
    """Return the exit code with which an error ends the program."""
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(2)
    if isinstance(error, Stopped):
        return error.code
    return error.exit_code if isinstance(error, FloodmarkError) else FloodmarkError.exit_code
