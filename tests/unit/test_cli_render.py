"""What the commands print: the same facts as text and as JSON, and nothing that steers a terminal."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from fix_cli import EVIL, EVIL_SHOWN, Tty, command_streams, entry, head, manifest
from floodmark.cli.commands import doctor
from floodmark.cli.output import figures, grid, render, render_state, views
from floodmark.cli.output.streams import console
from floodmark.cli.output.views import ChunkCounts
from floodmark.doctor import Finding
from floodmark.escaping import printable, printable_json
from floodmark.model import Reason, TableName
from floodmark.pipeline.entries import carried_over
from floodmark.pipeline.job import PlannedTable
from floodmark.pipeline.publish import RunResult
from floodmark.source.selection import LeftOut
from floodmark.state.manifest import Manifest, encode
from floodmark.state.run_list import KnownRun

NOW = datetime(2026, 11, 24, 3, 2, 3, tzinfo=UTC)
RUNS = [KnownRun(manifest=manifest(entry()))]
PLAIN = console(command_streams()[0].out, {})


def done(manifest: Manifest, uploaded: int = 0, seconds: float = 0.5) -> RunResult:
    return RunResult(manifest, "manifests/x.json", uploaded, seconds)


def test_a_run_as_plain_text() -> None:
    tables = (
        entry(),
        entry("place", "unchanged", "unchanged"),
        entry("secret", "failed", "denied", as_of=None, detail="SELECT is not granted"),
        entry("old", "dropped", "dropped", detail="it is gone"),
        carried_over(entry("other", "failed", "failed")),
    )
    told = {TableName("public", "person"): ChunkCounts(2, 3)}
    assert render.run_table(manifest(*tables), told, PLAIN).splitlines() == [
        "table          status      rows     size  chunks   time  reason",
        "public.person  extracted  2,000  42.0 kB     2/3  1.2 s  rows_changed: 1 of 2 chunks hold newer rows",
        "public.secret  failed         -        -     0/0  1.2 s  denied: SELECT is not granted",
        "public.old     dropped    2,000  42.0 kB     0/3  1.2 s  dropped: it is gone",
        "1 table unchanged; --verbose lists them",
    ]
    verbose = render.run_table(manifest(*tables), told, PLAIN, verbose=True).splitlines()
    assert len(verbose) == 5 and verbose[2].startswith("public.place   unchanged  2,000")


def test_a_run_without_a_change_is_two_lines_and_its_place() -> None:
    one = manifest(*(entry(f"t{number}", "unchanged", "unchanged") for number in range(396)))
    assert render.run_table(one, {}, PLAIN) == "396 tables unchanged; --verbose lists them\n"


def test_a_run_in_one_line() -> None:
    one = manifest(entry(), entry("b", "unchanged", "identical"), entry("c", "failed", "failed"))
    line = render.run_line(done(one, 4_200_000, 3.14), "manifest s3://mine/state/manifests/x.json", PLAIN)
    assert line == (
        "3 tables: 1 unchanged, 1 extracted, 1 failed; 4.2 MB uploaded in 3.1 s\n"
        "manifest s3://mine/state/manifests/x.json\n"
    )
    gone = render.run_line(done(manifest(entry(status="dropped"))), "x", PLAIN)
    assert gone.startswith("1 table: 0 unchanged, 0 extracted, 0 failed, 1 dropped; 0 B uploaded in 0.5 s")
    other = carried_over(entry("b", "failed", "failed"))
    alone = render.run_line(done(manifest(entry(), other)), "x", PLAIN)
    assert alone.startswith("1 table: 0 unchanged, 1 extracted, 0 failed (1 other table left out); 0 B uploaded")


def test_what_is_left_out_fits_a_terminal() -> None:
    kinds = ("view", "view", "materialized view", "foreign table", "extension table")
    found = [LeftOut(TableName("public", f"v{number}"), kind) for number, kind in enumerate(kinds)]
    to = console(command_streams(out=Tty())[0].out, {})
    to.width = 80
    assert render.left_out_lines(found, to) == (
        "Left out by default: 1 extension table, 1 foreign table, 1 materialized view, 2\n"
        "views. To land one, name it in full in tables.include.\n"
    )
    assert render.left_out_lines([], to) == ""


def test_a_table_without_sentences_has_no_blank_lines() -> None:
    columns = (grid.Column("table"), grid.Column("why", sentence=True))
    assert grid.draw(columns, [("a", ""), ("b", "")], PLAIN) == "table\na\nb\n"
    assert grid.draw(columns, [("a", ""), ("b", "x y")], PLAIN) == "table  why\na\nb      x y\n"


def test_a_run_that_another_run_overtook_says_so() -> None:
    late = RunResult(manifest(carried_over(entry()), carried_over(entry("b"))), "k", 5, 0.5, overtaken=2)
    assert render.run_line(late, "x", PLAIN).startswith(
        "0 tables: 0 unchanged, 0 extracted, 0 failed; 2 tables stay as another run committed them meanwhile, from a "
        "later snapshot; 5 B uploaded"
    )


def test_chunks_come_from_what_the_run_told_or_else_from_the_entry() -> None:
    told = {TableName("public", "person"): ChunkCounts(5, 9)}
    assert views.chunk_counts(entry(), told) == ChunkCounts(5, 9)
    assert views.chunk_counts(entry(), {}) == ChunkCounts(1, 3)
    assert views.chunk_counts(entry(status="unchanged"), {}) == ChunkCounts(0, 3)


def planned(name: str, code: str, chunks: int, to_extract: int, size: int) -> PlannedTable:
    return PlannedTable(TableName("public", name), Reason(code, "because"), chunks, to_extract, size)  # type: ignore[arg-type]


def test_a_plan_as_plain_text() -> None:
    tables = [planned("a", "rows_changed", 12, 3, 200_000_000), planned("b", "unchanged", 1, 0, 0)]
    assert render.plan_table(tables, PLAIN).splitlines() == [
        "table     chunks  to read  reason",
        "public.a    3/12   200 MB  rows_changed: because",
        "1 table unchanged; --verbose lists them",
        "1 of 2 tables to work on; 3 of 13 chunks, about 200 MB to read",
    ]
    assert "public.b     0/1        -  unchanged: because\n" in render.plan_table(tables, PLAIN, verbose=True)


def test_a_plan_of_a_source_that_knows_no_sizes() -> None:
    assert render.plan_table([planned("a", "no_proof", 1, 1, 0)], PLAIN).splitlines()[1:] == [
        "public.a     1/1        -  no_proof: because",
        "1 of 1 table to work on; 1 of 1 chunk",
    ]


@pytest.mark.parametrize(
    ("code", "to_extract", "work"),
    [("unchanged", 0, False), ("no_proof", 1, True), ("dropped", 0, True), ("denied", 0, True), ("unchanged", 1, True)],
)
def test_what_counts_as_work(code: str, to_extract: int, work: bool) -> None:
    assert views.has_work(planned("a", code, 1, to_extract, 0)) is work


def test_ages_in_a_status() -> None:
    one = manifest(entry(), entry("new", "failed", "denied", as_of=None))
    assert [views.table_status(table, NOW).age_seconds for table in one.tables] == [7200, None]


def test_the_numbers_of_a_run_in_history() -> None:
    tables = (entry(), entry("b", "unchanged", "unchanged"), entry("c", "failed", "failed"), entry("d", "dropped"))
    summary = views.run_summary(KnownRun(manifest=manifest(*tables, carried_over(entry("e")))))
    assert (summary.tables, summary.extracted, summary.unchanged, summary.failed, summary.dropped) == (4, 1, 1, 1, 1)
    assert (summary.outcome, summary.exit_code, summary.duration_seconds) == ("partial", 3, 60)
    assert (summary.written_bytes, summary.stored_bytes) == (21_000, 168_000)


def test_times_are_local_and_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert figures.both_times("2026-07-24T23:30:00Z") == "2026-07-24 23:30:00 UTC"
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    try:
        assert figures.both_times("2026-07-24T23:30:00Z") == "2026-07-25 00:30:00 BST (2026-07-24 23:30:00 UTC)"
        assert figures.both_times("2026-07-24T03:30:00Z") == "2026-07-24 04:30:00 BST (03:30:00 UTC)"
        assert figures.both_times("2026-11-24T03:30:00Z") == "2026-11-24 03:30:00 UTC"
        assert render_state.history_table([views.run_summary(RUNS[0])], PLAIN).splitlines()[0].split() == [
            *("run", "outcome", "exit", "ended", "(UTC)", "took", "changed", "failed", "dropped", "written", "stored")
        ]
        summer = replace(manifest(entry()), started_at="2026-07-24T03:30:00Z", finished_at="2026-07-24T03:31:00Z")
        shown = render_state.history_table([views.run_summary(KnownRun(manifest=summer))], PLAIN)
        assert "ended (BST)       ended (UTC)" in shown and "2026-07-24 04:31  2026-07-24 03:31" in shown
    finally:
        monkeypatch.undo()
        time.tzset()


def everything(evil: str, terminal: bool) -> list[str]:
    """Every text there is, of tables and databases with an evil name."""
    to = console(command_streams(out=Tty() if terminal else None)[0].out, {"TERM": "xterm"})
    bad = entry(evil, "failed", "denied", detail=evil)
    one = replace(manifest(bad), destination=evil, source=replace(manifest().source, database=evil))
    table = PlannedTable(TableName(evil, evil), Reason("no_proof", evil), 1, 1, 1)
    return [
        render.run_table(one, {}, to),
        render.run_line(done(one), evil, to),
        render.plan_table([table], to),
        render_state.status_table(head(one), [views.table_status(bad, NOW)], NOW, to),
        render_state.manifest_table(one, to),
        render_state.table_facts(one, bad),
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_names_never_steer_a_terminal(terminal: bool) -> None:
    for text in everything(EVIL, terminal):
        assert "\x1b[31m" not in text and "\x9b" not in text and "\u202e" not in text
        flat = "".join(text.split())
        assert EVIL_SHOWN in flat or "\\x1b[31m" in flat  # a narrow terminal folds it


def test_names_are_not_markup() -> None:
    assert all("[red]" in text.replace("\n", "") for text in everything("a[red]b[/red]:smile:", False))
    assert all(":smile:" in text for text in everything("a[red]b[/red]:smile:", False))


def test_colour_only_on_a_terminal_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    one = manifest(entry(status="failed"))
    tty = command_streams(out=Tty())[0].out
    coloured = render.run_table(one, {}, console(tty, {"TERM": "xterm-256color"}))
    assert "\x1b[1;31mfailed" in coloured
    plain = render.run_table(one, {}, console(tty, {"TERM": "xterm-256color", "NO_COLOR": "1"}))
    assert "failed" in plain and "31m" not in plain
    for to in (PLAIN, console(tty, {"TERM": "dumb"})):
        assert "\x1b" not in render.run_table(one, {}, to)


def test_a_long_name_is_whole_where_no_terminal_is() -> None:
    name = "n" * 300
    assert f"public.{name}  extracted" in render.run_table(manifest(entry(name)), {}, PLAIN)


def plain(text: str) -> list[str]:
    """The lines of a text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_doctor_wraps_its_findings_at_the_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text, fix = "a long finding " * 8 + "\nits second line", "a long suggestion " * 8
    found = Finding(check="head", result="warning", found=text, fix=fix)
    streams, out, _ = command_streams({"TERM": "xterm"}, out=Tty())
    doctor._shown([found], streams)
    lines = plain(out.getvalue())
    assert len(lines) == 8 and max(map(len, lines)) <= 80
    assert lines[0].startswith("warning    head   ") and {line[:35] for line in lines[1:]} == {" " * 35}
    assert [line[35:37] for line in lines if line[35:].startswith(("its", "→"))] == ["it", "→ "]
    streams, out, _ = command_streams({})
    doctor._shown([found], streams)
    assert out.getvalue().count("\n") == 3


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (123_456_789, "123 MB"),
        (7 * 10**12, "7.0 TB"),
        (5 * 10**18, "5000 PB"),
        (None, "-"),
    ],
)
def test_sizes(number: int | None, text: str) -> None:
    assert figures.size(number) == text


def test_seconds() -> None:
    assert (figures.seconds(0.04), figures.seconds(99.94), figures.seconds(100.0)) == ("0.0 s", "99.9 s", "1 min 40 s")


def test_ages_never_run_backwards() -> None:
    assert views.age("2026-11-24T03:02:04Z", NOW) == 0


def test_json_is_the_manifest_and_safe_on_a_terminal() -> None:
    one = manifest(entry(EVIL + "\x7f\U000e0041é"))
    safe = printable_json(encode(one))
    assert json.loads(safe) == json.loads(encode(one))
    text = safe.decode()
    assert "é" in text and "\\u009b" in text and "\\u202e" in text and "\\udb40\\udc41" in text
    assert all(letter == "\n" or printable(letter) == letter for letter in text)


def test_printable_leaves_letters_alone() -> None:
    assert printable("Straße 東京 [x] \\ '\"") == "Straße 東京 [x] \\ '\""
    assert printable("a\tb\x00") == "a\\tb\\x00"
