"""The report's page: what needs attention, what is shown of a place, and nothing that a name could break."""

from __future__ import annotations

import base64
import json
import re
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fix_report import INERT, NOW, ODD_NAMES, Invented, Teller, many_tables, odd_tables, service_tables
from floodmark.errors import ConfigError, FloodmarkError, StorageDenied
from floodmark.model import TableName
from floodmark.report import StateHistory, UnreadState, library, page, read_history, render_html
from floodmark.report.attention import notices
from floodmark.report.days import calendar
from floodmark.report.nights import working_run
from floodmark.report.places import without_secrets_in_urls
from floodmark.report.summary import state_view
from floodmark.state.manifest import Working
from floodmark.storage.memory import MemoryStorage
from floodmark.wording import iso_time
from screenshots_report import SHOTS

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")


@pytest.fixture(autouse=True)
def short_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here runs the page's script."""
    monkeypatch.setattr(page, "chart_library", lambda: "/* the library */")


def history(database: str, nights: int, tables: tuple[Invented, ...], **lost: str) -> StateHistory:
    teller = Teller(MemoryStorage(), database, nights, tables)
    teller.tell(lambda night: lost.get(f"n{night}", ""))
    return read_history(teller.ledger, 60)


def documents(html: str) -> list[dict[str, Any]]:
    """What the page's script unpacks."""
    found = re.findall(r'<script type="text/plain" class="data">([^<]*)</script>', html)
    return [json.loads(zlib.decompress(base64.b64decode(one))) for one in found]


def test_names_are_text_wherever_they_are() -> None:
    odd = history("</title><script>", 4, odd_tables())
    html = render_html([odd], NOW)
    assert (
        INERT not in html and "onmouseover" not in html and "alert(" not in html.replace("&lt;script&gt;alert(1)", "")
    )
    assert html.count("<script") == html.count("</script>") == 4  # values, data, the library and the page's own script
    assert {name for _, name in documents(html)[0]["tables"]} == set(ODD_NAMES)


def test_the_schema_of_a_hostile_table_is_escaped_in_the_timeline() -> None:
    odd = Invented(name=TableName("s", INERT), rows=9, retyped=2)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in render_html([history("d", 4, (odd,))], NOW)


def test_no_password_and_no_parameter_of_a_url_is_shown() -> None:
    error = StorageDenied(
        "can't read", on="s3://me:hunter2@lake/x?endpoint=hunter2", why="https://u:hunter2@h/p?t=hunter2"
    )
    failed = history("cases", 3, many_tables(1), n2="failed")
    html = render_html([UnreadState("s3://me:hunter2@lake/x?key=hunter2#hunter2", error), failed], NOW)
    assert "hunter2" not in html and "s3://lake/x" in html and "postgresql://db.internal/cases" in html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://lake/cases", "s3://lake/cases"),
        ("s3://a:b@lake/cases?x=y z", "s3://lake/cases z"),
        ("postgresql+psycopg://u@h:1/d#f: why?", "postgresql+psycopg://h:1/d why?"),
        ("mysql://u:p/w@h/d", "mysql://h/d"),
        ("/srv/state?x", "/srv/state?x"),
    ],
)
def test_a_url_is_reduced_to_its_place(text: str, shown: str) -> None:
    assert without_secrets_in_urls(text) == shown


def test_what_needs_attention_comes_first() -> None:
    fine = history("fine", 3, many_tables(1))
    late = history("late", 5, many_tables(1), n3="none", n4="none")
    failed = history("failed", 3, many_tables(1), n2="failed")
    ill = history("ill", 3, (*many_tables(1), Invented(name=TableName("s", "t"), rows=9, fails=(2,))))
    unborn = history("unborn", 1, (), n0="stopped")
    unread = UnreadState("s3://lake/x", StorageDenied("can't read"))
    assert notices(fine, NOW) == ()
    said = {
        "late": notices(late, NOW), "failed": notices(failed, NOW), "ill": notices(ill, NOW),
        "unborn": notices(unborn, NOW), "unread": notices(unread, NOW),
    }  # fmt: skip
    assert {name: [one.level for one in found] for name, found in said.items()} == {
        "late": ["bad"], "failed": ["bad", "warn"], "ill": ["warn"], "unborn": ["bad", "warn"], "unread": ["bad"],
    }  # fmt: skip
    assert said["ill"][0].text == "1 table failed: s.t"
    assert "13 of 40 chunks" in said["unborn"][1].text
    html = render_html([fine, ill, failed], NOW)
    assert html.index('id="/failed"') < html.index('id="/ill"') < html.index('id="/fine"')


def test_a_run_at_work_hides_no_failure() -> None:
    failed = history("cases", 3, many_tables(1), n2="failed")
    at_work = working_run(Working(run_id="x", timestamp="t", progress="progress/x.json", started_at=iso_time(NOW)))
    busy = replace(failed, runs=(at_work, *failed.runs))
    assert [one.level for one in notices(busy, NOW)] == ["bad", "warn", "note"]
    assert [one.level for one in notices(busy, NOW + timedelta(hours=7))] == ["bad", "warn", "warn"]
    assert state_view(busy, "cases", NOW).last == failed.runs[0]


def test_the_age_of_the_oldest_table_is_told_if_it_differs() -> None:
    ill = history("ill", 5, (*many_tables(1), Invented(name=TableName("s", "t"), rows=9, fails=(2, 3, 4))))
    assert "oldest table 3 days" in render_html([ill], NOW)
    assert "oldest table" not in render_html([history("fine", 5, many_tables(1))], NOW)


def test_data_is_as_old_as_its_tables_if_a_run_reads_none_of_them() -> None:
    ill = history("ill", 5, (Invented(name=TableName("s", "t"), rows=9, fails=(2, 3, 4)),))
    assert [one.text for one in notices(ill, NOW)] == ["The data is 3 days old.", "1 table failed: s.t"]


def test_a_table_that_was_renamed_was_not_dropped() -> None:
    old = Invented(name=TableName("s", "old"), rows=9, dies=2, oid=7)
    new = Invented(name=TableName("s", "new"), rows=9, born=2, oid=7)
    gone = Invented(name=TableName("s", "gone"), rows=9, dies=2)
    told = [one.text for one in notices(history("cases", 3, (*many_tables(1), old, new, gone)), NOW)]
    assert told == ["1 table dropped from the database: s.gone", "1 change of the schema: s.new"]


def test_what_a_stopped_run_moved_is_counted() -> None:
    fine = history("cases", 3, many_tables(1))
    ends = {"outcome": "stopped", "key": None, "stored_bytes": 0, "rows": 0, "moved_bytes": 70_000}
    stopped = replace(fine, runs=(fine.runs[0], replace(fine.runs[1], **ends), fine.runs[2]))
    with_it, without = state_view(stopped, "cases", NOW), state_view(replace(fine, runs=fine.runs[::2]), "cases", NOW)
    assert with_it.moved_bytes == without.moved_bytes + 70_000 and with_it.saved_bytes == without.saved_bytes
    assert [(one.day, one.moved_bytes, one.saved_bytes) for one in with_it.nights][1] == ("2026-11-29", 70_000, 0)
    assert [run[5:8] for run in documents(render_html([stopped], NOW))[0]["runs"]][1] == [70_000, None, None]


def test_a_run_counts_the_tables_that_it_looked_at() -> None:
    left = Invented(name=TableName("s", "left"), rows=9, left=(1,))
    html = render_html([history("cases", 2, (*many_tables(2), left))], NOW)
    changed = re.findall(r'data-label="Changed" class="num">(\d of \d)<', html)
    assert [one[-4:] for one in changed] == ["of 2", "of 3"]


def test_a_night_that_moved_nothing_and_kept_nothing_has_no_bar() -> None:
    empty = history("cases", 3, (), n1="failed")
    view = state_view(empty, "cases", NOW)
    assert (view.nights, view.saved_percent) == ((), None)
    assert 'data-chart="front"' not in render_html([empty], NOW)


def test_a_mismatch_of_the_audit_and_a_contract_are_told() -> None:
    fine = history("fine", 3, many_tables(1))
    odd = replace(fine, audit_mismatches=2, runs=(replace(fine.runs[0], drift=3, consistent=False), *fine.runs[1:]))
    texts = [one.text for one in notices(odd, NOW)]
    assert texts[0] == "The audit of the last run found 2 chunks that differ."
    assert texts[1:] == ["3 differences from the contract.", "The tables do not all show the same moment."]


def test_the_calendar_has_a_place_for_each_day_and_words_for_it() -> None:
    cases = history("cases", 10, many_tables(1), n4="none", n6="failed")
    found = calendar(cases.runs, NOW.date())
    days = [day for _, days in found.weekdays for day in days if day is not None]
    assert len(days) == 10 and found.weekdays[0][0] == "Mon"
    assert {day.outcome for day in days} == {"success", "none", "failed"}
    assert "Wednesday, 25 November 2026: no run" in {day.label for day in days}


def test_a_history_of_years_has_a_calendar_of_one_year() -> None:
    cases = history("cases", 2, many_tables(1))
    old = replace(cases.runs[1], finished_at="2020-01-01T00:00:00Z")
    assert len(calendar((cases.runs[0], old), NOW.date()).weeks) <= 54


def test_the_audit_tells_the_time_of_each_chunks_last_reading() -> None:
    view = state_view(history("cases", 40, service_tables(40)), "cases", NOW)
    assert [one.label for one in view.audit][:2] == ["in the last day", "in the last week"]
    assert sum(one.percent for one in view.audit) == pytest.approx(100)


def test_databases_of_one_name_have_links_of_their_own() -> None:
    one = history("cases", 2, many_tables(1))
    html = render_html([one, one, replace(one, database="cases~2"), history("a/b c", 2, many_tables(1))], NOW)
    assert all(html.count(f'id="/{slug}"') == 1 for slug in ("cases", "cases~2", "cases%7E2", "a%2Fb%20c"))


def test_no_name_turns_the_text_after_it_or_hides_a_part() -> None:
    odd = Invented(name=TableName("s", "\u202egnp.x\u200b"), rows=9, retyped=2)
    html = render_html([history("d\u202eb", 4, (*many_tables(1), odd))], NOW)
    assert r"s.\u202egnp.x\u200b" in html and r"d\u202eb" in html
    assert html.count("\u202e") == html.count("\u200b") == html.count('data-name="\u202egnp.x\u200b"')


def test_one_database_is_in_good_order_or_not() -> None:
    assert "One database, in good order" in render_html([history("fine", 3, many_tables(1))], NOW)
    assert "One database, which needs attention" in render_html([history("ill", 1, (), n0="failed")], NOW)


def test_tables_that_do_not_fit_are_left_out_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_MOST_TABLES", 5)
    small, large = history("small", 2, many_tables(3)), history("large", 2, many_tables(4))
    html = render_html([large, small], NOW)
    assert sorted(len(one["tables"]) for one in documents(html)) == [0, 3]
    assert html.count("are left out, because the page would be too large") == 1
    assert len(documents(render_html([large], NOW))[0]["tables"]) == 4


def test_each_picture_of_the_report_is_in_the_docs_and_small() -> None:
    images = Path(__file__).parents[2] / "docs" / "images"
    assert {one.stem for one in images.glob("report*.webp")} == {shot.name for shot in SHOTS}
    assert [one.name for one in images.glob("report*.webp") if one.stat().st_size > 200_000] == []
    page_of_docs = (images.parent / "report.md").read_text(encoding="utf-8")
    assert set(re.findall(r"images/([a-z-]+)\.webp", page_of_docs)) == {shot.name for shot in SHOTS}


def test_without_any_state_there_is_still_a_page() -> None:
    assert "0 databases" in render_html([], NOW)


def test_a_clock_that_is_behind_makes_no_negative_age() -> None:
    assert "0 seconds old" in render_html([history("cases", 2, many_tables(1))], NOW - timedelta(days=3))


@pytest.mark.parametrize(
    ("script", "why"),
    [("import os; os.kill(os.getpid(), 9)", "killed by signal 9"), ("raise SystemExit(7)", "ended with exit code 7")],
)
def test_a_chart_library_that_is_not_loaded_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.setattr(library, "_BUNDLE", script)
    library.chart_library.cache_clear()
    with pytest.raises(FloodmarkError, match=why):
        library.chart_library()


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="vl_convert"):
        render_html([], NOW)
