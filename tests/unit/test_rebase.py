"""Table by table: whose entry stands when ours comes on top of theirs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fix_state import HOME, RESTORED, dropped, entry, failed_over, manifest, never, point, stored, table
from floodmark.lineage import Lineage
from floodmark.model import ObjectEntry, Point, TableEntry
from floodmark.state.rebase import overtaken_tables, rebase

OLD, NEW, MINE = stored("t/old", "reused"), stored("t/theirs"), stored("t/mine")


def carried(theirs: TableEntry) -> TableEntry:
    """Their entry, marked as another run's."""
    return replace(theirs, carried_over=True)


def merged(
    ours: TableEntry | None,
    theirs: TableEntry | None,
    *,
    ours_at: Point,
    theirs_at: Point,
    attempted: bool = True,
) -> TableEntry | None:
    """What the rebased manifest says of table t."""
    result = rebase(
        manifest("ours", ours_at, *([ours] if ours else [])),
        manifest("theirs", theirs_at, *([theirs] if theirs else [])),
        "manifests/theirs.json",
        lambda _: attempted,
    )
    assert len(result.tables) <= 1
    return result.tables[0] if result.tables else None


def test_the_rebased_manifest_is_ours_with_their_manifest_as_parent() -> None:
    ours = manifest("ours", point(9), entry("t", point(9), MINE), parent="manifests/base.json")
    result = rebase(ours, manifest("theirs", point(5)), "manifests/theirs.r1.json", lambda _: True)
    assert result == replace(ours, parent="manifests/theirs.r1.json", consistent=False)


def test_tables_stay_in_order_and_each_run_keeps_what_only_it_did() -> None:
    ours = manifest("ours", point(9), entry("b", point(9), stored("b/mine")), entry("c", point(2), stored("c/old")))
    theirs = manifest("theirs", point(5), entry("a", point(5), stored("a/1")), entry("c", point(5), stored("c/new")))
    result = rebase(ours, theirs, "p", lambda name: name == table("b"))
    assert result.tables == (carried(theirs.tables[0]), ours.tables[0], carried(theirs.tables[1]))


def test_a_table_we_did_not_try_is_as_they_left_it() -> None:
    theirs = entry("t", point(5), NEW)
    ours = entry("t", point(9), MINE)
    assert merged(ours, theirs, ours_at=point(9), theirs_at=point(5), attempted=False) == carried(theirs)
    assert merged(ours, None, ours_at=point(9), theirs_at=point(5), attempted=False) is None


@pytest.mark.parametrize("lineage", [HOME, None])
def test_within_a_lineage_the_later_snapshot_wins(lineage: Lineage | None) -> None:
    early, late = point(5, lineage), point(9, lineage)
    ours, theirs = entry("t", late, MINE), entry("t", early, NEW)
    assert merged(ours, theirs, ours_at=late, theirs_at=early) == ours
    ours, theirs = entry("t", early, MINE), entry("t", late, NEW)
    assert merged(ours, theirs, ours_at=early, theirs_at=late) == carried(theirs)


def test_a_snapshot_with_the_same_xmax_is_later_by_xmin_then_by_time() -> None:
    def at(xmin: int, minute: int) -> Point:
        return Point(f"2026-11-23T01:{minute:02d}:00.000000Z", xmin, 2000, HOME)

    for late, early in [(at(11, 1), at(10, 2)), (at(10, 2), at(10, 1))]:
        ours, theirs = entry("t", late, MINE), entry("t", early, NEW)
        assert merged(ours, theirs, ours_at=late, theirs_at=early) == ours
        assert merged(theirs, ours, ours_at=early, theirs_at=late) == carried(ours)


def test_of_two_equal_snapshots_the_committed_one_stays() -> None:
    theirs = entry("t", point(5), NEW)
    assert merged(entry("t", point(5), MINE), theirs, ours_at=point(5), theirs_at=point(5)) == carried(theirs)


def test_across_lineages_the_committed_one_stays() -> None:
    late = point(9, RESTORED)
    theirs = entry("t", point(5), NEW)
    assert merged(entry("t", late, MINE), theirs, ours_at=late, theirs_at=point(5)) == carried(theirs)


def test_what_counts_is_the_tables_own_snapshot_not_the_runs() -> None:
    """Their run was later, but took this table over from before."""
    ours = entry("t", point(7), MINE)
    assert merged(ours, entry("t", point(3), OLD), ours_at=point(7), theirs_at=point(9)) == ours


def test_without_a_watermark_the_time_counts_and_only_where_there_is_no_lineage() -> None:
    """A view, say, that their run could not read and kept from before."""
    kept = failed_over(entry("t", point(3, None), OLD))
    ours = entry("t", point(7, None), MINE)
    assert merged(ours, kept, ours_at=point(7, None), theirs_at=point(9, None)) == ours
    assert merged(ours, kept, ours_at=point(7), theirs_at=point(9)) == carried(kept)


def test_our_failure_never_beats_their_entry() -> None:
    theirs = entry("t", point(5), NEW)
    for ours in (failed_over(entry("t", point(2), OLD)), never("t")):
        assert merged(ours, theirs, ours_at=point(9), theirs_at=point(5)) == carried(theirs)


def test_our_snapshot_beats_none_of_theirs_even_across_lineages() -> None:
    late = point(9, RESTORED)
    ours = entry("t", late, MINE)
    assert merged(ours, never("t"), ours_at=late, theirs_at=point(5)) == ours


def test_an_object_that_theirs_no_longer_names_can_not_be_named_again() -> None:
    """Ours is later, and proved a chunk unchanged whose object theirs replaced."""
    theirs = entry("t", point(5), NEW)
    assert merged(entry("t", point(9), OLD, MINE), theirs, ours_at=point(9), theirs_at=point(5)) == carried(theirs)


def test_an_object_that_theirs_names_can_be_named_again() -> None:
    ours = entry("t", point(9), OLD, MINE)
    theirs = entry("t", point(5), OLD, NEW)
    assert merged(ours, theirs, ours_at=point(9), theirs_at=point(5)) == ours


def test_a_table_only_we_have_is_added_when_its_objects_are_our_own() -> None:
    ours = entry("t", point(4), MINE)
    assert merged(ours, None, ours_at=point(4), theirs_at=point(5)) == ours
    assert merged(never("t"), None, ours_at=point(4), theirs_at=point(5)) == never("t")


@pytest.mark.parametrize(
    "ours",
    [entry("t", point(9), OLD, MINE), failed_over(entry("t", point(2), stored("t/of-an-earlier-run")))],
)
def test_a_table_only_we_have_fails_aloud_when_its_objects_may_be_gone(ours: TableEntry) -> None:
    result = merged(ours, None, ours_at=point(9), theirs_at=point(5))
    assert result is not None
    assert (result.status, result.checksum, result.rows, result.objects) == ("failed", None, None, ())
    assert result.reason.code == "failed"
    assert (result.reason == ours.reason) == (ours.status == "failed")


def test_our_drop_wins_when_we_looked_later_and_says_what_theirs_held_last() -> None:
    theirs = entry("t", point(5), NEW)
    ours = dropped(entry("t", point(2), OLD))
    for found in (theirs, carried(theirs)):
        result = merged(ours, found, ours_at=point(9), theirs_at=point(5))
        assert result == replace(theirs, status="dropped", reason=ours.reason, watermark=None)
    for earlier in (point(4), point(9, RESTORED)):
        assert merged(ours, theirs, ours_at=earlier, theirs_at=point(5)) == carried(theirs)


def test_their_drop_stands_unless_we_looked_later() -> None:
    theirs = dropped(entry("t", point(2), OLD))
    ours = entry("t", point(4), MINE)
    assert merged(ours, theirs, ours_at=point(4), theirs_at=point(5)) is None
    assert merged(never("t"), theirs, ours_at=point(4), theirs_at=point(5)) is None
    created_again = entry("t", point(9), MINE)
    assert merged(created_again, theirs, ours_at=point(9), theirs_at=point(5)) == created_again


def test_a_drop_both_saw_stood_in_their_manifest_and_goes() -> None:
    gone = dropped(entry("t", point(2), OLD))
    assert merged(gone, gone, ours_at=point(9), theirs_at=point(5)) is None
    assert merged(gone, None, ours_at=point(9), theirs_at=point(5)) is None
    assert merged(None, gone, ours_at=point(4), theirs_at=point(5)) is None


def at(second: int) -> ObjectEntry:
    """An object that was landed under that timestamp."""
    key = f"data/table_name=t/extraction_timestamp=2026112301000{second}Z/t-00000"
    return stored(key)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (entry("t", point(9), at(1)), entry("t", point(5), at(2)), ["20261123010002Z"]),
        (entry("t", point(9)), entry("t", point(5), at(2)), ["20261123010002Z"]),
        (entry("t", point(9), at(2)), entry("t", point(5), at(1)), []),
        (entry("t", point(9), at(2)), entry("t", point(5), at(2)), []),
        (failed_over(entry("t", point(9), at(1))), entry("t", point(5), at(2)), []),
        (entry("other", point(9), at(1)), entry("t", point(5), at(2)), []),
    ],
    ids=["sent before theirs", "empty since", "sent after theirs", "the same", "failed", "another table"],
)
def test_what_theirs_sent_under_a_later_timestamp_than_ours(
    mine: TableEntry, theirs: TableEntry, expected: list[str]
) -> None:
    landed = {"layout": "moj-landing"}
    ours, base = manifest("ours", point(9), mine, **landed), manifest("theirs", point(5), theirs, **landed)
    assert [one.timestamp for one in overtaken_tables(ours, base)] == expected
    assert overtaken_tables(replace(ours, layout="plain"), base) == [], "in a lake readers go by the manifest"


def test_the_same_rows_under_a_later_timestamp_are_as_good() -> None:
    mine, theirs = entry("t", point(9), at(1)), entry("t", point(5), at(2))
    same = replace(theirs, checksum=mine.checksum)
    ours = manifest("ours", point(9), mine, layout="moj-landing")
    assert overtaken_tables(ours, manifest("theirs", point(5), same)) == []
