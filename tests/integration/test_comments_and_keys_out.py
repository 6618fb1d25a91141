"""Keys and comments for consumers: in every schema, in DuckDB and in Glue. A new comment loads no row again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import yaml
from jsonschema import Draft202012Validator
from test_load import glue as glue  # a fixture

from fix_load import Job, ask

COMMENT = 'Who it\'s about:\n"{{ name }}" {% x %} {# é #} 🦀'
NIGHT = """
    CREATE TABLE "odd one" (a int);
    CREATE TABLE visit ("Person" bigint, at date, note text UNIQUE, PRIMARY KEY ("Person", at));
    INSERT INTO visit VALUES (1, '2026-01-01', 'x'); ALTER TABLE person ADD PRIMARY KEY (id);"""


def commented(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"COMMENT ON TABLE person IS '{quoted}'; COMMENT ON COLUMN person.name IS '{quoted}'"


def commented_job(job: Job) -> Job:
    job.night(NIGHT + commented(COMMENT))
    return job


def documents(job: Job, form: str, *options: str) -> Any:
    code, out, err = job.command("schema", "--format", form, *options)
    assert code == 0, err
    return yaml.safe_load(out)


def test_schemas_hold_keys_and_comments(job: Job) -> None:
    commented_job(job)
    mojap = documents(job, "mojap", "--table", "public.person")
    assert (mojap["description"], mojap["primary_key"]) == (COMMENT, ["id"])
    assert [one["description"] for one in mojap["columns"]][:2] == ["bigint in the source", COMMENT]
    schema = documents(job, "json-schema", "--table", "public.person")
    Draft202012Validator.check_schema(schema)
    assert (schema["description"], schema["x-primary-key"]) == (COMMENT, ["id"])
    assert schema["properties"]["name"]["description"] == COMMENT
    visit = documents(job, "json-schema", "--table", "public.visit")
    assert (visit["x-primary-key"], visit["x-unique-keys"]) == (["Person", "at"], [["note"]])
    assert "description" not in visit and documents(job, "mojap", "--table", "public.big")["primary_key"] == []


def test_show_names_the_key_and_escapes_comments(job: Job) -> None:
    commented_job(job)
    code, out, _ = job.command("show", "current", "public.person")
    lines = out.splitlines()
    assert code == 0 and "primary key: id" in lines
    assert [one for one in lines if one.startswith(("comment:", "  name text"))] == [
        f"comment:     {COMMENT}".replace("\n", "\\n"),
        f"  name text -- {COMMENT}".replace("\n", "\\n"),
    ]


def tables_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {table["name"]: table for source in document["sources"] for table in source["tables"]}


def test_dbt_sources_describe_what_was_loaded(job: Job) -> None:
    commented_job(job)
    document = documents(job, "dbt")
    assert [(one["name"].count("_audit"), one["schema"]) for one in document["sources"]] == [
        (1, "audit"),
        (0, "public"),
    ]
    tables = tables_of(document)
    person, visit = tables["person"], tables["visit"]
    assert jinja2.Template(person["description"]).render() == COMMENT
    assert [column["data_type"] for column in person["columns"]][:2] == ["BIGINT", "VARCHAR"]
    assert jinja2.Template(person["columns"][1]["description"]).render() == COMMENT
    assert person["columns"][0]["data_tests"] == ["not_null", "unique"] and "data_tests" not in person["columns"][1]
    assert [one.get("data_tests") for one in visit["columns"]] == [["not_null"], ["not_null"], ["unique"]]
    with duckdb.connect() as database:
        (row,) = database.execute(person["config"]["loaded_at_query"]).fetchall()
    assert person["config"]["meta"]["floodmark"]["as_of"].startswith(row[0].isoformat()) and "data_tests" not in visit
    only = documents(job, "dbt", "--dbt-utils", "--glue", "lake", "--table", "visit")
    ((source,), (table,)) = only["sources"], only["sources"][0]["tables"]
    assert (source["schema"], table["name"], table["columns"][0]["name"]) == ("lake", "visit", "person")
    (test,) = table["data_tests"]
    odd = tables["odd_one"]
    assert odd["identifier"] == "odd one" and "identifier" not in person
    arguments = test["dbt_utils.unique_combination_of_columns"]["arguments"]
    assert arguments["combination_of_columns"] == ["person", "at"]
    code, _, err = job.command("schema", "--format", "mojap", "--dbt-utils")
    assert code == 2 and "need --format dbt" in err


HELD = """
SELECT t.comment, list(c.comment ORDER BY c.column_index) FROM duckdb_tables() t
JOIN duckdb_columns() c USING (table_oid) WHERE t.table_name = 'person' GROUP BY ALL"""


def test_duckdb_has_comments_and_gets_new_ones_without_rows(job: Job, tmp_path: Path) -> None:
    commented_job(job)
    file = tmp_path / "cases.duckdb"
    into = f"duckdb:{file}"
    job.load(into)
    ((comment, columns),) = ask(file, HELD)
    assert comment.startswith(f"{COMMENT}\nLoaded by Floodmark: public.person, ") and columns[:2] == [None, COMMENT]
    unchanged = dict.fromkeys(job.load(into), "unchanged")
    job.night(
        "COMMENT ON TABLE person IS NULL; COMMENT ON COLUMN person.name IS NULL; COMMENT ON COLUMN person.id IS 'n'"
    )
    job.hide_data()
    assert job.load(into) == unchanged
    ((comment, columns),) = ask(file, HELD)
    assert comment.startswith("Loaded by Floodmark: public.person, ") and columns[:2] == ["n", None]
    before = file.read_bytes()
    assert job.load(into) == unchanged and file.read_bytes() == before


def test_glue_has_comments_and_gets_new_ones_without_rows(job: Job, glue: Any) -> None:
    client, database, _ = glue
    commented_job(job)
    into = f"glue:{database}"
    job.load(into)

    def person() -> dict[str, Any]:
        found: dict[str, Any] = client.get_table(DatabaseName=database, Name="person")["Table"]
        return found

    before = person()
    line = " ".join(COMMENT.split())
    assert before["Description"] == line
    assert [one["Comment"] for one in before["StorageDescriptor"]["Columns"]][:2] == ["bigint", line]
    unchanged = dict.fromkeys(job.load(into), "unchanged")
    assert person()["VersionId"] == before["VersionId"], "nothing is written again"
    job.night(f"COMMENT ON COLUMN person.name IS '{'long ' * 100}'")
    job.hide_data()
    assert job.load(into) == unchanged
    now = person()
    assert len(now["StorageDescriptor"]["Columns"][1]["Comment"]) <= 255
    assert now["StorageDescriptor"]["Location"] == before["StorageDescriptor"]["Location"]
    assert now["Parameters"]["floodmark_run_id"] == before["Parameters"]["floodmark_run_id"]
    assert json.dumps(now["Parameters"]) != json.dumps(before["Parameters"])
