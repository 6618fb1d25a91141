"""Times in words for documents and people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from floodmark.wording import iso_time

MOMENT = datetime(2026, 11, 24, 1, 2, 3, 4005, UTC)


def test_an_iso_time_is_in_utc_and_ends_with_z() -> None:
    assert iso_time(MOMENT) == "2026-11-24T01:02:03.004Z"
    assert iso_time(MOMENT, "seconds") == "2026-11-24T01:02:03Z"
    assert iso_time(MOMENT, "microseconds") == "2026-11-24T01:02:03.004005Z"
    assert iso_time(MOMENT.astimezone(timezone(timedelta(hours=2)))) == "2026-11-24T01:02:03.004Z"
