"""What a server says when it can't convert or won't take a value repeats that value. No one else may."""

from __future__ import annotations

from pathlib import Path

from fix_canaries import PASSWORD, ROW, SQL_PASSWORD, TABLES, require_none
from fix_command import Floodmark, Landing
from fix_postgres import PgDatabase

LOUD = f"""
CREATE FUNCTION loud(word text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE unique_violation USING MESSAGE = 'duplicate ' || word, DETAIL = 'Key (name)=(' || word || ')', HINT = word;
END $$;
CREATE VIEW raising AS SELECT id, loud(name) FROM person;
CREATE VIEW converting AS SELECT id, born::date FROM sick;
CREATE VIEW dividing AS SELECT 1 / (length(name) - length(name)) AS "{ROW[:6]}ed" FROM sick;
"""


def test_errors_that_hold_values(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute(TABLES)
    pg.execute(LOUD.replace(f'"{ROW[:6]}ed"', '"n"'))
    role = pg.role("reader", PASSWORD)
    pg.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    assert SQL_PASSWORD.strip("'")[:6] == ROW[:6]
    places = {"FLOODMARK_SOURCE": role.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")}
    floodmark = Floodmark(tmp_path / "job", places)
    floodmark.configure(
        'tables:\n  include: ["public.*", raising, converting, dividing]\n  rules: {sick: {where: "born::int > 0"}}\n'
    )
    for environment in ({}, {"FLOODMARK_DEBUG": "1"}):
        done = floodmark.run(code=3, environment=environment)
        reasons = {entry.name: entry.reason.detail for entry in done.manifest.tables if entry.status == "failed"}
        assert set(reasons) == {"raising", "converting", "dividing", "sick"}
        codes = {"raising": "23505", "converting": "22007", "dividing": "22012", "sick": "22P02"}
        for name, code in codes.items():
            assert code in reasons[name]
    text = floodmark("run", code=3)
    assert text.out.count("failed: ") == 4
    require_none(tmp_path / "out" / "_floodmark", floodmark.temporary)
    for command in ("status", "history", "show"):
        floodmark(command)
    assert len(Landing(tmp_path / "out").lines("public.person")) == 2000
