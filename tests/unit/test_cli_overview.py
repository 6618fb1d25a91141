"""`floodmark status` with several states: a line for each, the worst first, and an exit code for those not read."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fix_cli import head, manifest
from fix_documents import require_documented
from fix_many_states import Database, ledgers, make_states
from fix_state import commit
from floodmark.cli.main import main
from floodmark.cli.output.overview import StateSummary, summary, worst_first
from floodmark.cli.output.render_overview import totals_line
from floodmark.cli.output.views import RunSummary, StatusDocument
from floodmark.model import ContractDrift, Ended
from floodmark.wording import iso_time

NOW = datetime(2026, 11, 30, 6, tzinfo=UTC)
Reader = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The states of three databases, of which two have one name, and a place that holds no state."""
    folder = tmp_path_factory.mktemp("lake")
    make_states(
        {
            f"{folder}/fine": Database(name="fine", tables=3, nights=2, hours_ago=2),
            f"{folder}/bad": Database(name="cases", tables=4, failed=2),
            f"{folder}/other": Database(name="cases"),
        }
    )
    return folder


@pytest.fixture(autouse=True)
def _own_folder(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOODMARK_STATES", f"{lake}/fine {lake}/bad {lake}/other")


def shown(*arguments: str, code: int = 0) -> None:
    assert main(["status", *arguments]) == code


def document(capsys: Reader, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    shown("--output", "json", *arguments, code=code)
    out = capsys.readouterr().out
    require_documented(["status", "--output", "json"], out)
    states: list[dict[str, Any]] = json.loads(out)["states"]
    return states


def test_each_state_has_a_line_and_the_worst_is_first(lake: Path, capsys: Reader) -> None:
    shown()
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()]
    assert [line[0] for line in lines[1:4]] == [f"{lake}/bad", "fine", f"{lake}/other"]
    assert lines[1][1] == "partial" and "2 tables failed: public.a_table" in said.out.splitlines()[1]
    assert said.out.splitlines()[-1] == "3 states, 9 tables, 27 rows; 1 needs attention" and said.err == ""


def test_a_state_that_can_not_be_read_is_shown_with_the_others(lake: Path, capsys: Reader) -> None:
    given = [part for name in ("fine", "nowhere", "bad") for part in ("--state", f"{lake}/{name}")]
    shown(*given, code=13)
    said = capsys.readouterr()
    first = said.out.splitlines()[1]
    assert first.split()[:2] == [f"{lake}/nowhere", "unreadable"] and "no head.json is there" in first
    assert "fine" in said.out and "3 states, 7 tables" in said.out and "1 can't be read" in said.out
    assert said.err == "floodmark: 1 of 3 states can't be read\n"
    states = document(capsys, *given, code=13)
    assert [one["error"] is None for one in states] == [False, True, True]


def test_a_damaged_state_hides_no_other(lake: Path, tmp_path: Path, capsys: Reader) -> None:
    shutil.copytree(lake / "fine", tmp_path / "damaged")
    (tmp_path / "damaged/head.json").write_text("{}")
    states = document(capsys, "--state", "./damaged", "--state", f"{lake}/fine", code=13)
    assert "damaged" in states[0]["error"] and states[1]["tables"] == 3


def test_the_document_lists_facts_and_with_verbose_the_details(lake: Path, capsys: Reader) -> None:
    bad, fine, _ = document(capsys)
    assert (bad["database"], bad["outcome"], bad["failed"], bad["tables"]) == ("cases", "partial", 2, 4)
    assert fine["attention"] == [] and fine["details"] is None and 7200 <= fine["age_seconds"] < 8000
    details = document(capsys, "--verbose", "--limit", "1")[1]["details"]
    assert len(details["tables"]) == 3 and len(details["runs"]) == 1
    shown("--state", f"{lake}/fine", "--output", "json", "--limit", "1")
    alone = json.loads(capsys.readouterr().out)
    ages = [one.pop("age_seconds") for one in (*details["tables"], *alone["tables"])]
    assert details == alone and len(ages) == 6


def test_verbose_shows_each_state_as_for_itself(lake: Path, capsys: Reader) -> None:
    shown("--verbose", "--since", "12h")
    out = capsys.readouterr().out
    assert f"\ncases: {lake}/bad\n" in out and f"\nfine: {lake}/fine\n" in out
    assert out.count("public.a_table_of_the_service_0000") == 1 + 3
    assert out.count("success") == 2 + 2, "the night before is left out by --since"


def test_one_state_in_the_list_is_shown_as_ever(lake: Path, capsys: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOODMARK_STATES", f"{lake}/fine,{lake}/fine/")
    shown("--output", "json")
    said = capsys.readouterr()
    assert set(json.loads(said.out)) == {"head", "tables", "runs", "drift"}
    assert said.err == f"floodmark: given more than once, and read once: {lake}/fine/\n"


def test_a_run_that_failed_after_the_commit_is_the_last_run(tmp_path: Path, lake: Path, capsys: Reader) -> None:
    (ledger,) = ledgers([f"{tmp_path}/state"])
    commit(ledger, "r1")
    now = iso_time(datetime.now(UTC))
    ended = Ended(run_id="r2", database="cases", started_at=now, ended_at=now, outcome="failed", exit_code=12)
    ledger.claim("r2", datetime.now(UTC))
    ledger.release("r2", replace(ended, error="the server does not answer"))
    (one, _) = document(capsys, "--state", "./state", "--state", f"{lake}/fine")
    assert (one["outcome"], one["exit_code"]) == ("failed", 12)
    assert one["attention"][0] == "the last run failed with exit code 12: the server does not answer"


def run(outcome: str, started: datetime) -> RunSummary:
    return RunSummary(
        run_id="r",
        outcome=outcome,
        exit_code=None,
        started_at=iso_time(started),
        finished_at=None,
        duration_seconds=None,
    )


def test_what_needs_attention() -> None:
    begun = summary("./a", StatusDocument(runs=(run("unfinished", NOW - timedelta(hours=7)),)), NOW)
    assert begun.attention == ("no run has been committed yet", "run r began 7 h ago and has not ended")
    assert begun.outcome == "unfinished"
    recent = summary("./a", StatusDocument(runs=(run("unfinished", NOW - timedelta(hours=5)),)), NOW)
    assert recent.attention == ("no run has been committed yet",)
    stopped = summary("./a", StatusDocument(runs=(run("stopped", NOW),)), NOW)
    assert stopped.attention[0].startswith("the last run was stopped")
    drift = ContractDrift(kind="new_column", schema="public", name="t", column="c", action="excluded", detail="new")
    assert "1 difference from the contract" in summary("./a", StatusDocument(drift=(drift,)), NOW).attention


@pytest.mark.parametrize(("hours", "told"), [(25, ()), (27, ("the last commit is 1 d 3 h old",))])
def test_a_commit_that_is_older_than_a_night_and_two_hours_needs_attention(hours: int, told: tuple[str, ...]) -> None:
    committed = replace(head(manifest()), committed_at=iso_time(NOW - timedelta(hours=hours)))
    assert summary("./a", StatusDocument(head=committed), NOW).attention == told


def test_the_order() -> None:
    fine = StateSummary(state="fine", database="a", committed_at="x", outcome="success", tables=1, oldest_age_seconds=5)
    older = replace(fine, state="older", oldest_age_seconds=9)
    never = replace(fine, state="never", oldest_age_seconds=None)
    odd = replace(fine, state="odd", attention=("x",))
    partial = replace(odd, state="partial", failed=1)
    failed = replace(odd, state="failed", outcome="failed")
    new = replace(odd, state="new", committed_at=None, tables=0)
    away = StateSummary(state="away", error="x", attention=("x",))
    given = [fine, odd, older, failed, new, never, partial, away]
    assert [one.state for one in worst_first(given)] == [
        *("away", "failed", "new", "partial", "odd", "never", "older", "fine")
    ]
    assert totals_line(given) == "8 states, 6 tables, 0 rows; 4 need attention; 1 can't be read"
