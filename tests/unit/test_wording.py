"""Times and counts as texts for documents and people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from floodmark.wording import duration_text, iso_time, plural

MOMENT = datetime(2026, 11, 24, 1, 2, 3, 4005, UTC)


def test_an_iso_time_is_in_utc_and_ends_with_z() -> None:
    assert iso_time(MOMENT) == "2026-11-24T01:02:03.004Z"
    assert iso_time(MOMENT, "seconds") == "2026-11-24T01:02:03Z"
    assert iso_time(MOMENT, "microseconds") == "2026-11-24T01:02:03.004005Z"
    assert iso_time(MOMENT.astimezone(timezone(timedelta(hours=2)))) == "2026-11-24T01:02:03.004Z"


@pytest.mark.parametrize(("number", "text"), [(0, "0 tables"), (1, "1 table"), (2, "2 tables"), (1234, "1,234 tables")])
def test_one_thing_is_told_from_many(number: int, text: str) -> None:
    assert plural(number, "table") == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min 59 s"), (7200, "2 h"), (90061, "1 d 1 h")],
)
def test_a_time_span_shows_its_two_largest_units(number: int, text: str) -> None:
    assert duration_text(number) == text
