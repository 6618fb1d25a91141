"""json that is no Unicode text: PostgreSQL's `json` keeps a lone surrogate as it was written (its jsonb refuses it)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from test_load import TARGETS, held

import floodmark
from fix_load import Job
from fix_runs import Nightly
from floodmark.errors import DoesNotFit
from floodmark.reader.reader import Table

LONE = [r'"\ud800"', r'{"a":"\uDC00 \ud83d\ude00", "\ud83d\\ude00" : [1.10]}', r'"\u0000"', r'"é\\ud800"', "null"]
ODD = r"""
    CREATE DOMAIN document AS json; CREATE TYPE pair AS (x int, j json);
    CREATE TABLE odd (id int, j json, d document, a json[], p pair, n numeric(60,2), f float8, t text, q int);
    INSERT INTO odd SELECT n, '{"k": 1.10}', '"plain"', NULL, NULL, 1.50, 'NaN', 'x', 7 FROM generate_series(1, 9) n;
    INSERT INTO odd (id, j, d, a, p, n, f, t) VALUES
        (10, ' "\ud800" ', '"\udc00x"', ARRAY['"\ud801"']::json[], (1, '"\ud802"'), 2.50, '-0', '"\ud800"')"""


@pytest.fixture
def odd(nightly: Nightly) -> Table:
    nightly.database.execute(ODD)
    nightly.run()
    return floodmark.open(str(nightly.folder)).latest()["odd"]


def test_rows_hold_what_json_loads_would_give(odd: Table) -> None:
    *plain, last = odd.rows()
    assert [row["id"] for row in plain] == list(range(1, 10))
    assert plain[0]["j"] == {"k": 1.1} and plain[0]["d"] == "plain" and plain[0]["n"] == Decimal("1.50")
    assert plain[0]["q"] == 7 and plain[0]["f"] != plain[0]["f"]
    assert (last["j"], last["d"], last["a"], last["p"]) == ("\ud800", "\udc00x", ["\ud801"], {"x": 1, "j": "\ud802"})
    assert last["n"] == Decimal("2.50") and str(last["f"]) == "-0.0" and last["t"] == r'"\ud800"'


def test_arrow_and_duckdb_keep_the_text_of_the_json(odd: Table) -> None:
    expected = {"j": r'"\ud800"', "d": r'"\udc00x"', "a": r'["\ud801"]', "p": r'{"x":1,"j":"\ud802"}', "t": r'"\ud800"'}
    *plain, last = odd.arrow().read_all().to_pylist()
    assert {name: last[name] for name in expected} == expected and str(last["f"]) == "-0.0"
    assert plain[0]["j"] == '{"k": 1.10}' and plain[0]["d"] == '"plain"'
    with duckdb.connect() as connection:
        found = odd.relation(connection)
        types = dict(zip(found.columns, found.types, strict=True))
        assert str(types["j"]) == str(types["d"]) == "JSON"
        kept = found.filter("id = 10").project("j::VARCHAR, d::VARCHAR, a::VARCHAR, p, t").fetchall()
        assert kept == [tuple(expected.values())]
        with pytest.raises(duckdb.Error):
            found.project("j->>'k'").fetchall()
        assert found.project("id, TRY(j->>'k')").fetchall() == [(n, "1.1") for n in range(1, 10)] + [(10, None)]


@pytest.mark.parametrize("kind", TARGETS)
def test_a_table_with_such_a_value_is_loaded(job: Job, tmp_path: Path, kind: str) -> None:
    values = ", ".join(f"({number}, '{text}')" for number, text in enumerate(LONE))
    job.night(f"CREATE TABLE odd (id int, j json); INSERT INTO odd VALUES {values}")
    target = TARGETS[kind](tmp_path)
    assert job.load(target)["public.odd"] == "loaded"
    assert held(target, "public.odd") == [*enumerate(LONE[:-1]), (4, None)]
    target = TARGETS[kind](tmp_path / "as_text") if kind == "parquet" else f"{target}.text"
    assert job.load(target, "--text", "public.odd.j")["public.odd"] == "loaded"
    assert held(target, "public.odd") == [*enumerate([*LONE[:2], "\0", r"é\ud800"]), (4, None)]


@pytest.mark.parametrize("lone", [False, True])
def test_a_value_that_does_not_fit_is_told_by_its_own_column(nightly: Nightly, lone: bool) -> None:
    value = r"""INSERT INTO odd VALUES (2, '"\ud800"', 1);""" if lone else ""
    nightly.database.execute(
        f"CREATE TABLE odd (id int, j json, n numeric); {value}"
        "INSERT INTO odd VALUES (3, '[1e9999999999999999999999]', 1.23456789012)"
    )
    nightly.run()
    odd = floodmark.open(str(nightly.folder)).latest()["odd"]
    refusals: list[Any] = []
    for read in (lambda: list(odd.rows()), lambda: odd.arrow().read_all()):
        with pytest.raises(DoesNotFit) as refusal:
            read()
        refusals.append(refusal.value)
    by_rows, by_arrow = refusals
    assert "public.odd, column j" in by_rows.sentence and "lines()" in (by_rows.hint or "")
    assert "public.odd, column n" in by_arrow.sentence and "--text public.odd.n" in (by_arrow.hint or "")
    assert odd.arrow(text=["n"]).read_all().column("j").to_pylist()[-1] == "[1e9999999999999999999999]"
