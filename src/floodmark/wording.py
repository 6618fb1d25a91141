"""Times as texts, written the same way everywhere: in documents, messages and the command line's output. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

Precision = Literal["seconds", "milliseconds", "microseconds"]


def iso_time(moment: datetime, precision: Precision = "milliseconds") -> str:
    """Return an ISO 8601 time in UTC, which ends with Z."""
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
