"""The result of a case: series of measurements, and findings with their budgets."""

from __future__ import annotations

from msgspec import Struct

from bench.measure import Series


class Finding(Struct, frozen=True):
    """A number and its budget, if it has one. `value` must be at most `budget`; both are in `unit`."""

    what: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def kept(self) -> bool | None:
        return None if self.budget is None else self.value <= self.budget


class Outcome(Struct, frozen=True):
    """The result of a case: one series per contestant, and the findings.

    `notes` are sentences for the report. A case can have several outcomes, which have names of their own.
    """

    case: str
    title: str
    series: tuple[Series, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """The peak memory of the runs of Floodmark in this case, or 0."""
        ours = (one.peak_bytes for one in self.series if one.name.startswith("floodmark run") and one.samples)
        return max(ours, default=0)


class Skipped(Exception):
    """A case that can't run on this machine. The text says why."""
