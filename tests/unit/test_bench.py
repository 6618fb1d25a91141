"""The benchmark's own parts: the pages from the results file, partial runs, peers that fail, pinned requirements."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from bench import chart, pages, report, results
from bench.catalogue import CASES
from bench.contest import SLOW, Contestant, rounds
from bench.full import findings
from bench.measure import Failed, Sample, Series
from bench.outcome import Finding, Outcome
from bench.peers import PEERS
from bench.results import CaseRecord, Machine, Results

BENCH = Path(__file__).parents[2] / "bench"
README = (BENCH / "README.md").read_text(encoding="utf-8")
MACHINE = Machine(2, "a processor", 8 << 30, 0.1, "3.11", "floodmark 1", "abc", "18.4")


def sample(seconds: float = 1.0, server: float = 0.5) -> Sample:
    return Sample(seconds, 0.25, server, 1 << 20, 1000)


def full(*series: Series) -> Outcome:
    return Outcome("full", "full extraction", series, tuple(findings(series)), ("5 rows.",))


def always(value: Sample) -> Callable[[], Sample]:
    return lambda: value


def broken() -> Sample:
    raise Failed("the first line\nits last line")


def ignored(text: str) -> None:
    assert text


def test_the_chart_and_the_pages_agree_with_the_results_file() -> None:
    found = results.read(results.LATEST)
    assert found.cases
    for path, text in pages.files(found).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run python -m bench.pages"


def test_another_result_changes_each_page() -> None:
    found = results.read(results.LATEST)
    (old,) = (case for case in found.cases if case.case == "full")
    outcome = old.outcomes[0]
    slower = (Series(outcome.series[0].name, (sample(12345.0),)), *outcome.series[1:])
    new = msgspec.structs.replace(old, outcomes=(full(*slower),))
    for path, text in pages.files(results.merged(found, new, list(CASES))).items():
        assert path.read_text(encoding="utf-8") != text, path.name


def test_a_partial_run_replaces_only_its_own_cases(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    for case, title in (("small", "old"), ("full", "kept"), ("small", "new")):
        record = results.record(case, [Outcome(case, title, (), ())], MACHINE, 3)
        results.write(results.merged(results.read(path), record, list(CASES)), path)
    titles = [(case.case, case.outcomes[0].title) for case in results.read(path).cases]
    assert titles == [("full", "kept"), ("small", "new")]


def test_a_peer_that_fails_takes_no_further_part_and_the_others_go_on() -> None:
    ours, peer = rounds([Contestant("floodmark", always(sample())), Contestant("p", broken, peer=True)], 3, ignored)
    assert (len(ours.samples), len(peer.samples)) == (3, 0)
    assert peer.note == "failed in round 1: its last line"
    assert findings([ours, peer]) == []
    assert "| p | failed in round 1: its last line |" in report.markdown(
        Results(cases=(CaseRecord("full", "now", MACHINE, 3, (full(ours, peer),)),))
    )


def test_a_slow_peer_gets_one_round_and_the_report_tells_so() -> None:
    slow = Contestant("dlt", always(sample(SLOW + 1)), peer=True)
    ours, peer = rounds([Contestant("floodmark", always(sample())), slow], 3, ignored)
    assert (len(ours.samples), len(peer.samples)) == (3, 1)
    assert peer.note == "1 round only, because it takes more than a minute"
    assert findings([ours, peer])[0] == Finding("against dlt", pytest.approx(1 / (SLOW + 1)), "×", 0.1)
    assert peer.note in report.markdown(Results(cases=(CaseRecord("full", "", MACHINE, 3, (full(ours, peer),)),)))


def test_a_failure_of_floodmark_ends_the_case() -> None:
    with pytest.raises(Failed, match="its last line"):
        rounds([Contestant("floodmark run", broken)], 3, ignored)


def test_the_chart_shows_every_program_and_number_in_words() -> None:
    series = (
        Series("floodmark run", (sample(2.0, 1.5),)),
        Series("a | b <c>", (sample(123.4, 0.75),)),
        Series("gone", (), "skipped: no network"),
    )
    drawn = chart.svg(full(*series))
    for text in ("floodmark run", "a | b &lt;c&gt;", "2.00", "1.50", "123", "0.75", "gone", ">skipped<"):
        assert text in drawn
    assert drawn.count('class="gap"') == 1
    assert "prefers-color-scheme: dark" in drawn
    assert "skipped: no network" in chart.words(series)


@pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])
def test_each_peer_is_pinned_by_hash_and_names_no_registry(peer: object) -> None:
    text = next(one for one in PEERS if one is peer).requirements.read_text(encoding="utf-8")
    assert "://" not in text
    lines = [line for line in re.sub(r"\\\n", "", text).splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==\S+( +--hash=sha256:[0-9a-f]{64})+", line), line[:60]
    assert {one.requirements.name for one in PEERS} == {path.name for path in BENCH.glob("peers-*.txt")}


def test_the_readme_lists_every_case() -> None:
    cases = README.partition("\n## Cases\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", cases, re.MULTILINE)
    assert listed == list(CASES)
