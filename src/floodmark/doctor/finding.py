"""The result of a check, and a runner that keeps one broken check from hiding the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from msgspec import Struct

from floodmark.errors import ConfigError, EngineError, FloodmarkError, SourceError, StorageError

Result = Literal["ok", "warning", "problem", "unknown"]


class Finding(Struct, frozen=True, kw_only=True):
    """A check's finding, and its fix: a setting to change, or a statement to run.

    `unknown` means that the check could not be made. `exit_code` is the code that a run would end with, and 0 unless
    the result is a problem. Neither text holds a secret or a row's value. Both can have several lines.
    """

    check: str
    result: Result
    found: str
    fix: str | None = None
    exit_code: int = 0


# Hints for errors without their own.
_WHERE_TO_LOOK = {
    ConfigError.exit_code: "Correct the named setting; docs/configuration.md describes each one.",
    SourceError.exit_code: "Check the address: source.url, FLOODMARK_SOURCE, --source, or the PG… variables.",
    EngineError.exit_code: "Check --engine, FLOODMARK_ENGINE or engine: see docs/scale.md.",
    StorageError.exit_code: "Check destination.url and state.url, the credentials (AWS_…) and AWS_ENDPOINT_URL_S3.",
}

Findings = Iterable[Finding]
Check = Callable[[], Findings]


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, result="ok", found=found)


def warning(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, result="warning", found=found, fix=fix)


def unknown(check: str, found: str, fix: str | None = None) -> Finding:
    return Finding(check=check, result="unknown", found=found, fix=fix)


def problem(check: str, found: str, fix: str, exit_code: int) -> Finding:
    return Finding(check=check, result="problem", found=found, fix=fix, exit_code=exit_code)


def of_error(check: str, error: FloodmarkError) -> Finding:
    """Return the problem that a run would end with."""
    fix = error.hint or _WHERE_TO_LOOK.get(error.exit_code, "Set FLOODMARK_DEBUG=1 to see its origin.")
    return Finding(check=check, result="problem", found=error.sentence, fix=fix, exit_code=error.exit_code)


def run_check(check: str, action: Check) -> Iterator[Finding]:
    """Yield a check's findings. If the check can't be made, that is the finding."""
    try:
        yield from action()
    except FloodmarkError as error:
        yield unknown(check, error.sentence, error.hint)
