"""Runs as people name them on the command line."""

from __future__ import annotations

import pytest

from fix_canaries import CANARY
from fix_cli import manifest
from floodmark.errors import UsageError
from floodmark.state.run_ids import find_run

RUNS = [
    manifest(run_id=run_id)
    for run_id in ("20261124T010203Z-7f3a9c", "20261123T010203Z-aaaaaa", "20261123T010203Z-ab0000")
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("20261124T010203Z-7f3a9c", 0),
        ("20261124", 0),
        ("20261123T010203Z-aa", 1),
        ("20261123T010203Z-aaaaaa", 1),
        ("20261123T010203Z-ab", 2),
    ],
)
def test_a_run_is_found_by_its_id_or_by_the_beginning_of_it(wanted: str, found: int) -> None:
    assert find_run(RUNS, wanted) is RUNS[found]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("20200101", "20200101: history holds no such run"),
        ("20261123", "20261123: several runs begin so: 20261123T010203Z-aaaaaa, 20261123T010203Z-ab0000"),
        ("", "this is no run's id"),
        ("-7f3a9c", "this is no run's id"),
        (f"postgresql://u:{CANARY}@h", "this is no run's id"),
        ("../head", "this is no run's id"),
    ],
)
def test_a_run_that_can_t_be_meant_is_refused(wanted: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_run(RUNS, wanted)
    assert told in caught.value.sentence and "floodmark history" in (caught.value.hint or "")
    assert CANARY not in str(caught.value)


def test_no_history_holds_no_run() -> None:
    with pytest.raises(UsageError, match="history holds no such run"):
        find_run([], "20261124")
