"""The native encoder in a run: who makes the lines, what only the server may make, and definitions that change.

The lines themselves are compared in property/test_native_lines.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fix_command import Floodmark
from fix_postgres import PgDatabase
from fix_runs import Nightly
from floodmark.errors import ConfigError
from floodmark.events import Event, RunStarted
from floodmark.native import VARIABLE, encoder_in_use, is_built, usual_encoder
from floodmark.source.postgres.types import TypeCatalog

FILL = "CREATE TABLE person AS SELECT i AS id, 'name ' || i AS name, now() AS at FROM generate_series(1, 3000) i"
native_only = pytest.mark.skipif(not is_built(), reason="the native encoder is not built")


def maker(events: list[Event]) -> str | None:
    """The maker that the last run's log names."""
    return [event.encoder for event in events if isinstance(event, RunStarted)][-1]


def test_the_variable_chooses() -> None:
    assert encoder_in_use({}) == encoder_in_use({VARIABLE: ""}) == usual_encoder()
    assert encoder_in_use({VARIABLE: "server"}) == "server"
    with pytest.raises(ConfigError, match="neither native nor server"):
        encoder_in_use({VARIABLE: "cython"})


def test_native_must_have_been_built_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floodmark.native.is_built", lambda: False)
    assert encoder_in_use({}) == "server"
    with pytest.raises(ConfigError, match="not built"):
        encoder_in_use({VARIABLE: "native"})


def test_the_commands_say_who_makes_the_lines(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute(FILL)
    places = {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    for chosen in ("", "server"):
        job = Floodmark(tmp_path / "job", {**places, VARIABLE: chosen})
        expected = chosen or usual_encoder()
        assert job("--version").out.splitlines()[1] == f"encoder: {expected}"
        checks = {one["check"]: one for one in job("doctor", "--output", "json").json["checks"]}
        assert checks["encoder"]["result"] == "ok" and checks["encoder"]["found"].startswith(f"{expected}: ")
        assert f"encoder={expected}" in job("run", "--log-format", "text").err
    job = Floodmark(tmp_path / "job", {**places, VARIABLE: "other"})
    assert VARIABLE in job("run", code=10).err
    assert VARIABLE in job("--version", code=10).err


@native_only
def test_a_state_moves_between_both_makers(nightly_any: Nightly) -> None:
    nightly_any.database.execute(FILL)
    nightly_any.run(encoder="native")
    assert maker(nightly_any.events) == "native"
    for encoder in ("server", "native"):
        nightly_any.run(encoder=encoder)
        assert nightly_any.outcome("public.person") == ("unchanged", "unchanged")
        nightly_any.database.execute("UPDATE person SET id = id WHERE id = 7")
        nightly_any.run(encoder=encoder, audit_share=100.0)
        nightly_any.database.execute("VACUUM FULL person")
        nightly_any.run(encoder=encoder)
        nightly_any.require_truth()
    nightly_any.database.execute(
        "TRUNCATE person; INSERT INTO person SELECT i, 'x', 'epoch' FROM generate_series(1, 3000) i"
    )
    nightly_any.run(encoder="native")
    keys = [entry.key for entry in nightly_any.entry("public.person").objects]
    nightly_any.database.execute("VACUUM FULL person")
    nightly_any.run(encoder="server")
    assert nightly_any.outcome("public.person") == ("unchanged", "identical")
    assert [entry.key for entry in nightly_any.entry("public.person").objects] == keys


@native_only
@pytest.mark.parametrize("denied", ["record_send(record)", "to_json(anyelement)"])
def test_a_role_that_may_not_call_a_function_has_the_servers_lines(nightly: Nightly, denied: str) -> None:
    nightly.database.execute(f"{FILL}; REVOKE EXECUTE ON FUNCTION pg_catalog.{denied} FROM PUBLIC")
    role = nightly.database.role("reader")
    nightly.database.execute("GRANT SELECT ON person TO reader")
    nightly.run(url=role.url)
    assert maker(nightly.events) == "server"
    nightly.require_truth()


FORBIDDEN = """
    CREATE TYPE odd;
    CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out);
    CREATE FUNCTION odd_send(odd) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    ALTER TYPE odd SET (SEND = odd_send);
    CREATE TYPE mute;
    CREATE FUNCTION mute_in(cstring) RETURNS mute LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION mute_out(mute) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE mute (INPUT = mute_in, OUTPUT = mute_out);
    CREATE DOMAIN odder AS odd; CREATE TYPE with_odd AS (a odd, b mute);
    CREATE FUNCTION own_send(uuid) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    ALTER TYPE uuid SET (SEND = own_send); CREATE DOMAIN known AS uuid;
    CREATE TABLE t (a odd, b odd[], c odder, d with_odd, e mute, f mute[], g int,
        h uuid DEFAULT gen_random_uuid(), i known DEFAULT gen_random_uuid(), j uuid[] DEFAULT ARRAY[gen_random_uuid()]);
    INSERT INTO t SELECT 'a "b', ARRAY['x, y', NULL]::odd[], E'new\\nline', ROW('p', 'q')::with_odd, 'm', '{m}', i
    FROM generate_series(1, 40) i;
    INSERT INTO t DEFAULT VALUES"""


@native_only
@pytest.mark.parametrize("row_format", ["jsonl", "csv"])
def test_a_users_send_function_is_never_called(nightly: Nightly, row_format: Any) -> None:
    nightly.database.execute(FORBIDDEN)
    nightly.run(format=row_format)
    assert maker(nightly.events) == "native" and nightly.entry("public.t").rows == 41
    first = nightly.entry("public.t").checksum
    nightly.run(format=row_format, encoder="server", full=True)
    assert nightly.entry("public.t").checksum == first


@native_only
def test_a_users_cast_from_json_makes_no_text(nightly: Nightly) -> None:
    nightly.database.execute("""
        CREATE FUNCTION wrong(json) RETURNS text LANGUAGE sql AS $$ SELECT 'wrong' $$;
        CREATE CAST (json AS text) WITH FUNCTION wrong(json);
        CREATE TABLE t AS SELECT point '(1,2)' AS v FROM generate_series(1, 20)""")
    nightly.run()
    assert maker(nightly.events) == "native"
    assert nightly.landed("public.t") == [b'{"v":"(1,2)"}\n'] * 20


USURPERS = """
    CREATE FUNCTION evil(anyelement) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    CREATE TYPE mood AS ENUM ('calm'); CREATE DOMAIN label AS text;
    CREATE FUNCTION evil_text(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    CREATE FUNCTION evil_bytes(mood) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    CREATE CAST (mood AS text) WITH FUNCTION evil_text(mood) AS ASSIGNMENT;
    CREATE CAST (mood AS bytea) WITH FUNCTION evil_bytes(mood) AS ASSIGNMENT;
    CREATE FUNCTION public.record_send(record) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    CREATE FUNCTION public.to_json(point) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    CREATE FUNCTION public.format(text, point) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
    CREATE TABLE t AS SELECT 'calm'::mood AS a, 'x'::label AS b, point '(1,2)' AS c, i, 'c'::"char" AS d
    FROM generate_series(1, 40) i"""


@native_only
@pytest.mark.parametrize("row_format", ["jsonl", "csv"])
def test_a_users_casts_and_functions_are_never_called(nightly: Nightly, row_format: Any) -> None:
    nightly.database.execute(USURPERS)
    nightly.database.execute(f'ALTER DATABASE "{nightly.database.name}" SET search_path = public, pg_catalog')
    nightly.run(format=row_format)
    assert maker(nightly.events) == "native" and nightly.entry("public.t").rows == 40


CHANGES = {
    "two columns change their names": "ALTER TABLE person RENAME id TO x; ALTER TABLE person RENAME name TO id; "
    "ALTER TABLE person RENAME x TO name",
    "a type that is stored alike": "ALTER TABLE person ALTER at TYPE timestamp",
    "a label": "ALTER TYPE mood RENAME VALUE 'calm' TO 'wild'",
}


@native_only
@pytest.mark.parametrize("change", CHANGES)
def test_a_definition_that_changes_under_the_snapshot_is_read_again(nightly: Nightly, change: str) -> None:
    nightly.database.execute(
        f"CREATE TYPE mood AS ENUM ('calm'); {FILL}; ALTER TABLE person ADD mood mood DEFAULT 'calm'"
    )
    times = iter(range(1))

    def alter(event: Event) -> None:
        if isinstance(event, RunStarted) and next(times, None) is not None:
            nightly.database.execute(CHANGES[change])

    nightly.run_observed(alter)
    assert sum(isinstance(event, RunStarted) for event in nightly.events) == 2
    nightly.require_truth()


@native_only
def test_rows_that_are_not_as_planned_fail_their_table_and_show_nothing(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly.database.execute(
        "CREATE TABLE t AS SELECT 'a canary ' || i AS a FROM generate_series(1, 40) i; CREATE TABLE u AS SELECT 1 AS a"
    )
    real = TypeCatalog._wire_kind
    monkeypatch.setattr(TypeCatalog, "_wire_kind", lambda self, oid: "int8" if oid == 25 else real(self, oid))
    assert nightly.run().failed == 1
    assert nightly.outcome("public.u")[0] == "extracted"
    told = nightly.entry("public.t").reason.detail or ""
    assert "other rows than its catalog describes" in told and "row 1, field 1" in told and "canary" not in told
    assert not any("canary" in str(event) for event in nightly.events)


@native_only
@pytest.mark.parametrize("rows", [0, 20000])
def test_a_statement_that_fails_after_some_rows_fails_its_table_alone(nightly: Nightly, rows: int) -> None:
    view = f"CREATE VIEW v AS SELECT 1 / ({rows} - i) AS a, repeat('x', 100) AS b FROM generate_series(0, 30000) i"
    nightly.database.execute(f"{view}; CREATE TABLE calm AS SELECT 1 AS a")
    nightly.run(include=("public.*", "public.v"))
    assert nightly.outcome("public.v") == ("failed", "failed") and nightly.outcome("public.calm")[0] == "extracted"
    assert "SQLSTATE 22012" in (nightly.entry("public.v").reason.detail or "")
