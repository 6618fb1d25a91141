"""The report in a real headless Chromium: it loads nothing, keeps the console empty, and works by mouse and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fix_chromium import Browser, browser
from fix_report import INERT, NOW, ODD_NAMES, Invented, Teller, many_tables, odd_tables, service_tables
from floodmark.errors import StorageDenied
from floodmark.escaping import printable
from floodmark.model import TableName
from floodmark.report import UnreadState, read_history, render_html
from floodmark.storage.memory import MemoryStorage

__all__ = ["browser"]
pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

NIGHTS = 30
LONG = "x" * 300


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report about four states: one has a story, one odd names, one many tables, and one can't be read."""
    histories = []
    stories = (("cases", NIGHTS, service_tables(NIGHTS)), ("odd", 4, odd_tables()), ("many", 3, many_tables(400)))
    for name, nights, tables in stories:
        teller = Teller(MemoryStorage(), name, nights, tables)
        teller.tell(lambda night: {NIGHTS - 6: "failed", NIGHTS - 9: "none"}.get(night, ""))
        histories.append(read_history(teller.ledger, 60))
    unread = UnreadState("s3://lake/gone", StorageDenied("can't read the state", on="s3://lake/gone"))
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html([*histories, unread], NOW), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report about a database of more than a year, one with a short and eventful life, and one with long names."""
    odd = {
        "late": Invented(name=TableName("s", "late"), rows=9, left=(1, 2, 3)),
        "gone": Invented(name=TableName("s", "gone"), rows=9, dies=3, left=(4, 5)),
        "grown": Invented(name=TableName("s", "grown"), rows=110_000, growth=30_000, retyped=4),
    }
    years = Teller(MemoryStorage(), "years", 370, many_tables(1))
    short = Teller(MemoryStorage(), "short", 6, tuple(odd.values()))
    wide = Teller(MemoryStorage(), LONG, 2, (Invented(name=TableName("s", LONG), rows=9),))
    for one in (years, short, wide):
        one.tell()
    path = tmp_path_factory.mktemp("corners") / "report.html"
    histories = [read_history(years.ledger, 400), *(read_history(one.ledger, 5) for one in (short, wide))]
    path.write_text(render_html(histories, NOW), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: the console is empty, and the browser asked for the file and for nothing else."""
    if "browser" not in request.fixturenames:
        yield
        return
    seen: Browser = request.getfixturevalue("browser")
    seen.theme("light")
    seen.size(1280, 900)
    yield
    assert seen.problems == []
    assert {url.partition(":")[0] for url in seen.requests} <= {"file", "data"}
    assert all("report.html" in url for url in seen.requests if url.startswith("file"))


def texts(browser: Browser, selector: str) -> list[str]:
    found: list[str] = browser.run(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText)"
    )
    return found


def names(browser: Browser) -> list[str]:
    """The tables that the open database lists."""
    return texts(browser, "section.database:not([hidden]) .heat tbody th")


def click(browser: Browser, selector: str, text: str) -> None:
    browser.run(
        f"[...document.querySelectorAll({json.dumps(selector)})].find((one) => one.innerText.trim() === "
        f"{json.dumps(text)}).click()"
    )


def type_into(browser: Browser, selector: str, text: str) -> None:
    browser.run(
        f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(text)};"
        " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def test_the_front_page_tells_what_needs_attention_first(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert texts(browser, "h1:not([hidden] *)") == ["4 databases, 2 in good order"]
    assert texts(browser, ".urgent > li > a") == ["s3://lake/gone", "cases"]
    assert texts(browser, "#databases tbody th") == ["s3://lake/gone", "cases", "many", "odd"]
    assert browser.run("document.querySelectorAll('[data-chart=front] svg path').length") > 20
    click(browser, "#databases thead button", "Tables")
    assert texts(browser, "#databases tbody th")[0] == "s3://lake/gone"
    click(browser, "#databases thead button", "Tables")
    assert texts(browser, "#databases tbody th")[0] == "many"
    assert browser.run("document.querySelectorAll('#databases [aria-sort=descending]').length") == 1


def test_a_database_has_its_calendar_charts_and_tables(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases")
    chart = "[...document.querySelectorAll('section.database:not([hidden]) .chart')]"
    assert browser.run(f"{chart}.map((one) => !!one.querySelector('svg'))") == [True] * 4
    assert (
        browser.run("document.querySelectorAll('section:not([hidden]) .chart svg [role=graphics-object]').length") > 4
    )
    assert browser.run("document.querySelectorAll('section:not([hidden]) .calendar td:not(.outside)').length") >= NIGHTS
    assert names(browser)[0] == "court.hearing"  # failing tables come first
    assert "renamed" in " ".join(texts(browser, ".timeline li")) and "video_link" in " ".join(
        texts(browser, ".timeline li")
    )
    assert texts(browser, "section:not([hidden]) .tables .shown") == ["20 of 20 tables"]


def test_tables_are_searched_and_sorted(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases")
    click(browser, "section:not([hidden]) .heat thead button", "Rows")
    assert names(browser)[0] == "public.audit_event"
    click(browser, "section:not([hidden]) .heat thead button", "Rows")
    assert names(browser)[-1] == "public.audit_event"
    assert (
        browser.run("document.querySelector('section:not([hidden]) .heat [aria-sort=ascending]').innerText") == "Rows"
    )
    type_into(browser, "section:not([hidden]) .tables input[type=search]", "COURT")
    assert len(names(browser)) == 4 and all("court" in name for name in names(browser))


def test_many_tables_are_shown_a_page_at_a_time(browser: Browser, report: Path) -> None:
    browser.open(report, "#/many")
    assert len(names(browser)) == 50
    click(browser, "section:not([hidden]) .tables button", "Show more")
    assert len(names(browser)) == 100


def test_the_search_finds_tables_of_all_databases(browser: Browser, report: Path) -> None:
    browser.open(report)
    type_into(browser, "#search", "table_00399")
    browser.until("document.querySelectorAll('#found a').length === 1")
    assert browser.run("document.querySelector('#told').textContent") == "1 found"
    browser.run("document.querySelector('#found a').click()")
    browser.until("document.querySelector('#table-title')?.innerText === 'part_19.table_00399'")


def test_a_table_has_a_link_with_columns_keys_history_and_objects(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases/public/visit")
    page = texts(browser, "#table")[0]
    for part in (
        "primary key",
        "unique (person_id, code)",
        "character varying(40)",
        "column removed",
        "In pounds",
        "jsonl.gz",
    ):
        assert (part in page) == (part != "In pounds"), part  # the column with this comment is gone
    assert browser.run("document.querySelectorAll('#table .chart svg').length") == 2
    assert browser.run("document.title") == "public.visit – Floodmark report"
    assert "nights changed" in browser.run("document.querySelector('#table .cells').ariaLabel")


@pytest.mark.parametrize("name", ["keyworker", "key_worker", "old_import"])
def test_a_table_that_is_gone_or_renamed_still_has_its_page(browser: Browser, report: Path, name: str) -> None:
    browser.open(report, f"#/cases/public/{name}")
    assert texts(browser, "#table h1") == [f"public.{name}"]


def test_a_link_to_nothing_says_so(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases/public/%3Cb%3Enope")
    assert texts(browser, "#table h1") == ["public.<b>nope"] and "No run in this report" in texts(browser, "#table")[0]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_table_with_any_name_is_inert(browser: Browser, report: Path, name: str) -> None:
    browser.open(report)
    link = browser.run(f"'#/odd/public/' + encodeURIComponent({json.dumps(name)})")
    browser.go(link)
    assert browser.run("document.querySelector('#table h1').textContent") == f"public.{printable(name)}"
    assert browser.run("document.querySelectorAll('#table .chart svg').length") == 2
    assert browser.run("document.querySelectorAll('script').length") == 6
    if name == INERT:  # also in the charts of the database, and in its columns
        assert "<script>alert(4)</script>" in texts(browser, "#table")[0]
        browser.go("#/odd")
        assert len(names(browser)) == len(ODD_NAMES)


def test_no_two_days_share_a_bar(browser: Browser, corners: Path) -> None:
    browser.open(corners)
    bars = "document.querySelector('[data-chart=front]').view.data('source_0')"
    assert browser.run(f"new Set({bars}.map((one) => one.x)).size") == 370
    assert browser.run(f"{bars}.at(-1).x") == "30 Nov 2026"


def test_a_table_that_runs_left_out_was_there(browser: Browser, corners: Path) -> None:
    browser.open(corners, "#/short")
    rows = "document.querySelectorAll('section.database:not([hidden]) .heat tbody tr')"
    told = browser.run(
        f"Object.fromEntries([...{rows}].map((row) => [row.children[0].innerText, [row.children[3].innerText,"
        " row.children[4].innerText.replace('\\n', ' '),"
        " [...row.querySelectorAll('.cells i')].map((one) => one.className)]]))"
    )
    assert told["s.late"] == ["0 of 2", "unchanged", ["c-x", "c-x", "c-x", "c-u", "c-u"]]
    assert told["s.gone"][1:] == ["D dropped", ["c-u", "c-u", "c-d", "c-a", "c-a"]]


def test_a_quiet_night_has_the_chunks_of_its_time(browser: Browser, corners: Path) -> None:
    browser.open(corners, "#/short/s/grown")
    values = browser.run("document.querySelector('#table-chunks').view.data('source_0').map((one) => one.value)")
    nights = [sum(values[at : at + 2]) for at in range(0, 10, 2)]
    assert nights == [1, 1, 1, 2, 2]


def test_paper_has_all_rows_of_a_long_list(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases")
    shown = (
        "[...document.querySelectorAll('section:not([hidden]) .limited tbody tr')].filter((row) => row.offsetHeight)"
    )
    assert browser.run(f"{shown}.length") == 14
    browser.theme("light", media="print")
    assert browser.run(f"{shown}.length") == NIGHTS - 1
    browser.theme("light")


def test_paper_has_tables_and_not_the_cards_of_a_phone(browser: Browser, report: Path) -> None:
    browser.open(report, "#/many")
    assert len(names(browser)) == 50
    assert browser.pdf().count(b"/Type /Page\n") <= 4


def test_a_long_name_makes_no_page_wider(browser: Browser, corners: Path) -> None:
    browser.size(390, 844)
    for place in ("#/", f"#/{LONG}", f"#/{LONG}/s/{LONG}"):
        browser.open(corners, place)
        assert browser.run("document.documentElement.scrollWidth") == 390, place


def test_colours_that_mean_something_stay_if_colours_are_forced(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases")
    colour = "getComputedStyle(document.querySelector('section:not([hidden]) .heat i.c-c')).backgroundColor"
    plain = browser.run(colour)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "forced-colors", "value": "active"}])
    assert browser.run("matchMedia('(forced-colors: active)').matches") and browser.run(colour) == plain
    browser.theme("light")


def test_dark_and_print_change_the_colours(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases")
    background = "getComputedStyle(document.body).backgroundColor"
    bar = "getComputedStyle(document.querySelector('[data-chart=bytes] path[fill=\"var(--changed)\"]')).fill"
    light = (browser.run(background), browser.run(bar))
    browser.theme("dark")
    dark = (browser.run(background), browser.run(bar))
    assert light[0] != dark[0] and light[1] != dark[1]
    browser.run("document.querySelector('#theme').click()")
    assert (browser.run(background), browser.run(bar)) == light
    browser.run("document.querySelector('#theme').click()")
    browser.theme("light")
    assert browser.run(background) == dark[0]
    browser.theme("dark", media="print")
    assert browser.run(background) == "rgb(255, 255, 255)" and browser.run(bar) == light[1]
    assert browser.run("getComputedStyle(document.querySelector('.top')).display") == "none"
    assert browser.pdf().startswith(b"%PDF")
    browser.theme("light")
    browser.run("document.querySelector('#theme').click()")


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_its_window(browser: Browser, report: Path, width: int) -> None:
    browser.size(width, 844)
    for place in ("#/", "#/cases", "#/cases/public/audit_event", "#/odd"):
        browser.open(report, place)
        assert browser.run("document.documentElement.scrollWidth") == width, place


def test_headings_labels_and_captions_are_there(browser: Browser, report: Path) -> None:
    for place in ("#/", "#/cases", "#/cases/public/audit_event"):
        browser.open(report, place)
        assert browser.run(HEADINGS) == []
        assert browser.run(UNNAMED) == []
        assert browser.run("document.querySelectorAll('h1:not([hidden] *)').length") == 1
    assert browser.run("document.querySelectorAll('main, header, footer, [role=search]').length") == 4
    assert browser.run("document.documentElement.lang") == "en"
    ids = browser.run("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_a_screen_reader_hears_sentences_and_no_fields_of_charts(browser: Browser, report: Path) -> None:
    browser.open(report, "#/cases")
    nodes = [one for one in browser.call("Accessibility.getFullAXTree")["nodes"] if not one["ignored"]]
    said = [one.get("name", {}).get("value", "") for one in nodes]
    assert any(text.endswith(" stayed") for text in said) and "1 night dropped" in " ".join(said)
    assert [text for text in said if "tip:" in text or "order:" in text or "mark:" in text] == []


# Headings that leave out a level, and elements that a screen reader could not name.
HEADINGS = """(() => {
  const shown = [...document.querySelectorAll('h1, h2, h3')].filter((one) => one.checkVisibility());
  return shown.map((one) => +one.tagName[1]).filter((level, at, levels) => level - (levels[at - 1] ?? 0) > 1);
})()"""
UNNAMED = """[...document.querySelectorAll('a, button, input, select, table, svg, [role=img]')].filter((one) => {
  const bare = ['TABLE', 'SELECT'].includes(one.tagName);
  return one.checkVisibility() && !one.closest('[aria-hidden=true]') && !(
    !bare && one.textContent.trim() || one.labels?.length || one.ariaLabel || one.getAttribute('aria-labelledby') ||
    one.querySelector(':scope > caption') || one.tagName === 'svg' && one.querySelector('[aria-label]'));
}).map((one) => one.outerHTML.slice(0, 200))"""


def test_the_keyboard_reaches_the_content_the_search_and_the_results(browser: Browser, report: Path) -> None:
    browser.open(report)
    press(browser, "Tab")
    assert browser.run("document.activeElement.textContent") == "Skip to the content"
    press(browser, "/")
    assert browser.run("document.activeElement.id") == "search"
    type_into(browser, "#search", "person")
    browser.until("document.querySelectorAll('#found a').length > 0")
    press(browser, "ArrowDown")
    assert browser.run("document.activeElement.closest('#found') !== null")
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(browser, "Escape")
    assert browser.run("document.querySelector('#found').hidden && document.activeElement.id === 'search'")


def press(browser: Browser, key: str) -> None:
    codes = {"Tab": 9, "ArrowDown": 40, "Escape": 27, "/": 191}
    more = {"text": key} if len(key) == 1 else {}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **more)
