"""What lands in a landing zone is accepted by the receiver's own linter, with the metadata of `floodmark schema`.

That the linter looks is shown too: it refuses what is broken, and what it is known not to take.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fix_command import Floodmark, entry_of
from fix_linter import PYTHON, ROOT, Linter, Verdict
from fix_postgres import PgDatabase
from floodmark.state.manifest import Manifest

TYPES = r"""
CREATE TYPE colour AS ENUM ('red', 'gr"een', 'back\slash');
CREATE DOMAIN plate AS text;
CREATE TYPE pair AS (x int, y text);
CREATE TABLE kinds (
  id int8 GENERATED ALWAYS AS IDENTITY, i2 int2, i4 int4, i8 int8, price numeric(10,2), tight numeric(38,38),
  bare numeric, wide numeric(60,5), r real, d double precision, b bool, day date, ts timestamp, tz timestamptz,
  t time, ttz timetz, gap interval, u uuid, j json, jb jsonb, ints int[], texts text[][], raw bytea, address inet,
  net cidr, kind colour, cost money, doc xml, span int4range, during tstzrange, spans int4multirange, name varchar(20),
  code char(7), note text, plate plate, pair pair, p point, words tsvector, bits varbit,
  doubled int4 GENERATED ALWAYS AS (i4 / 2) STORED);
INSERT INTO kinds (i2, i4, i8, price, tight, bare, wide, r, d, b, day, ts, tz, t, ttz, gap, u, j, jb, ints, texts, raw,
  address, net, kind, cost, doc, span, during, spans, name, code, note, plate, pair, p, words, bits) VALUES
  (32767, 2147483647, 9223372036854774784, 99999999.99, 0.12345678901234567890123456789012345678,
   1234567890123456789.0123456789, 1234567890123456789.12345, 3.4028235e38, 1.7976931348623157e308, true, '9999-12-31',
   '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00', '24:00', '23:59:60+14', '178000000 years 11 mons',
   'ffffffff-ffff-ffff-ffff-ffffffffffff', E'{"a" :\n [1,\t2, 1e400, -0.0]}',
   '{"b": {"c": [1, {"d": null}]}, "é": "🦀"}',
   '{1,NULL,-2147483648}', '{{a,"b,c"},{"\"","\\"}}', '\x00ff5c', '10.0.0.1/8', '2001:db8::/32', 'gr"een',
   92233720368547758.07, XML, '[1,5)', '[2026-01-01 00:00+00,)', '{[1,3),[5,9)}', 'ünïcödé 🦀', 'ab',
   E'line\nfeed\ttab \\ back\u2028 \r "quote" \x01 é', 'AB 12', '(1,"z q")', '(1.1,2)', 'a:1 b:2', '10'),
  (-32768, -2147483648, -9223372036854775808, -99999999.99, -0.1, -1234567890123456789.5, -0.00001, -1e-37, 5e-324,
   false, '0001-01-01', '0001-01-01 00:00', '0001-01-01 00:00+00', '00:00', '00:00-14', '-1 day', gen_random_uuid(),
   '[]', '{}', '{}', '{}', '', '::1', '10.0.0.0/8', 'red', -0.01, NULL, 'empty', 'empty', '{}', '', '', '',
   '', '(,)', '(0,0)', '', ''),
  (0, 0, 0, 0, 0, 'NaN', 0, 'NaN', '-Infinity', NULL, '2026-02-28', '2026-02-28 12:00:00.5', '2026-07-01 12:00+01',
   '12:00:00.5', '12:00+00', 'P1Y', gen_random_uuid(), '"text"', 'true', '{{1},{2}}', '{NULL}', '\x61', '10.0.0.1',
   '::/0', 'back\slash', 0, NULL, '(,)', '(,)', '{}', '0012', '12', '00123', 'null', '(1,)', '(1e300,-1)', 'a', '1');
INSERT INTO kinds DEFAULT VALUES;
CREATE TABLE strict (id int8 NOT NULL, at timestamptz NOT NULL, day date NOT NULL, ok bool NOT NULL, n numeric NOT NULL,
  doc jsonb NOT NULL, raw json NOT NULL, list int[] NOT NULL, note text NOT NULL);
INSERT INTO strict VALUES (1, '2026-01-01', '2026-01-01', true, 1.50, 'null', 'null', '{}', ' ');
CREATE TABLE nulls (LIKE kinds); INSERT INTO nulls (id) VALUES (1), (2);
CREATE TABLE person (id int, name text);
INSERT INTO person SELECT n, repeat('x', 300) FROM generate_series(1, 1000) n;
CREATE TABLE nothing (id int);
CREATE TABLE "Odd table/ü.x" ("id " int, "a""b" text, "Größe" numeric, "select" date, "a.b" int, "%s" text,
  created_at bigint, updated_at text, date timestamptz, modified numeric);
INSERT INTO "Odd table/ü.x" VALUES (1, 'x', 1.5, '2026-01-01', 2, '%', 1700000000, 'yesterday', '2026-01-01', 1e9);
CREATE SCHEMA audit; CREATE TABLE audit."an entry" (id int, at timestamp);
INSERT INTO audit."an entry" VALUES (1, '2026-01-01');
CREATE TABLE audit.person (id int); INSERT INTO audit.person VALUES (1);
"""
CHUNKS = "chunk_size: 64KiB\n"
# Of what may stand in a line, each would make the linter refuse the whole file, or take it for something else.
TOO_LARGE = ["18446744073709551616", "-9223372036854775809", "-12345678901234567890.5", "1" * 39]


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    has_xml = "libxml" in pg.value("SELECT setting FROM pg_config WHERE name = 'CONFIGURE'")
    pg.execute(TYPES.replace("XML,", "'<a b=\"c\">x&amp;</a>'," if has_xml else "NULL,"))
    return pg


class Job:
    """A service's job, and the landing zone it fills: a folder."""

    def __init__(self, service: PgDatabase, folder: Path) -> None:
        self.zone, self.lake = folder / "zone", folder / "lake"
        self.command = Floodmark(folder / "job", {"FLOODMARK_SOURCE": service.url})

    def land(self, more: str = "", form: str = "format: jsonl") -> Manifest:
        """A run straight into the zone, which remembers."""
        destination = f"destination: {{url: {self.zone}, layout: moj-landing, {form}}}\n"
        places = f"{destination}state: {{url: {self.lake}}}\n"
        self.command.configure(CHUNKS + places + more)
        return self.command.run().manifest

    def metadata(self, *options: str, without: tuple[str, ...] = ("nothing",)) -> list[dict[str, Any]]:
        """The documents of the tables that have rows: the linter stops, and says nothing, at one that has no file."""
        found: list[dict[str, Any]] = self.command("schema", "--format", "mojap", *options).json["tables"]
        return [one for one in found if one["name"] not in without]


@pytest.fixture
def job(service: PgDatabase, tmp_path: Path) -> Job:
    return Job(service, tmp_path)


def require_accepted(verdicts: dict[str, Verdict]) -> None:
    refused = {key: verdict.why for key, verdict in verdicts.items() if not verdict.valid}
    assert not refused, refused


@pytest.mark.parametrize("form", ["format: jsonl", "format: csv"])
def test_every_object_of_a_landing_is_accepted(job: Job, service: PgDatabase, linter: Linter, form: str) -> None:
    manifest = job.land(form=form)
    verdicts = linter(job.zone, job.metadata())
    require_accepted(verdicts)
    assert set(verdicts) == {one.key for entry in manifest.tables for one in entry.objects}
    assert len(entry_of(manifest, "public.person").objects) > 2
    assert {key.split("/")[1] for key in verdicts} == {
        f"database_name={service.name}_{schema}" for schema in ("public", "audit")
    }


def test_every_object_of_a_delivery_is_accepted(job: Job, linter: Linter) -> None:
    """Gzip in a lake, plain lines with the receiver's names in the zone."""
    job.command.configure(f"{CHUNKS}destination: {{url: {job.lake}}}\n")
    lake = job.command.run().manifest
    assert all(one.key.endswith(".jsonl.gz") for entry in lake.tables for one in entry.objects)
    job.command("deliver", "--to", str(job.zone), "--layout", "moj-landing")
    names = {one["name"] for one in job.metadata()}
    documents = job.metadata("--layout", "moj-landing")
    assert {one["name"] for one in documents} == names and all("_" in one["database_name"] for one in documents)
    verdicts = linter(job.zone, documents)
    require_accepted(verdicts)
    assert len(verdicts) == sum(len(entry.objects) for entry in lake.tables)


def test_every_document_is_mojap_metadata_and_becomes_a_table(job: Job, service: PgDatabase, linter: Linter) -> None:
    manifest = job.land()
    documents = job.metadata(without=())
    assert len(documents) == len(manifest.tables)
    for document, (database, name, columns, schema) in zip(documents, linter.metadata(documents), strict=True):
        assert (document["$schema"], document["database_name"], document["name"]) == (schema, database, name)
        assert list(columns) == [column["name"] for column in document["columns"]]
    (nothing,) = [one for one in documents if one["name"] == "nothing"]
    assert nothing["database_name"] == f"{service.name}_public"


def spoilt(line: bytes, **values: Any) -> bytes:
    return json.dumps({**json.loads(line), **values}).encode() + b"\n"


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "a broken line": lambda line: line[:-4] + b"\n",
    "text in an integer": lambda line: spoilt(line, id="one"),
    "no date": lambda line: spoilt(line, day="31.1.2026"),
    "no timestamp": lambda line: spoilt(line, at="yesterday"),
    "null where there is none": lambda line: spoilt(line, note=None),
    "a column too many": lambda line: spoilt(line, more=1),
    "another column": lambda line: line.replace(b'"ok"', b'"okay"'),
    **{f"{text[:21]}… unquoted": lambda line, text=text: line.replace(b"1.50", text.encode()) for text in TOO_LARGE},
}


def test_what_is_broken_is_refused(job: Job, linter: Linter, tmp_path: Path) -> None:
    """Each fault in a file of its own, beside the good one; so the linter looks at every file."""
    manifest = job.land("tables: {include: [public.strict]}\n")
    (good,) = entry_of(manifest, "public.strict").objects
    line = (job.zone / good.key).read_bytes()
    key = {name: good.key.replace("-00000", f"-{at:05}") for at, name in enumerate(SPOILT, start=1)}
    for name, spoil in SPOILT.items():
        assert spoil(line) != line
        (job.zone / key[name]).write_bytes(spoil(line))
    document = job.command("schema", "--format", "mojap", "--table", "public.strict").json
    verdicts = linter(job.zone, [document])
    assert verdicts.pop(good.key).valid
    assert {name: verdicts[key[name]].valid for name in SPOILT} == dict.fromkeys(SPOILT, False)
    for name in SPOILT:
        if name.endswith("unquoted"):
            assert "Value is too" in verdicts[key[name]].why


# What a column v of a table holds, and the ways to land it at which the linter refuses the whole file.
LINES = {"jsonl", "quoted"}
LIMITS: dict[str, tuple[str, list[str | None], set[str]]] = {
    "above": ("numeric", ["18446744073709551616.5"], {"jsonl"}),
    "below": ("numeric(50,2)", ["-9223372036854775809", None], {"jsonl"}),
    "in_json": ("jsonb", ['{"a": [18446744073709551616]}'], {"jsonl"}),
    "in_array": ("numeric[]", ["{-99999999999999999999}"], {"jsonl"}),
    "edges": ("numeric", ["18446744073709551615.5", "-9223372036854775808.5", None], set()),
    "json_edges": ("jsonb", ["[18446744073709551615, -9223372036854775808]", None], set()),
    "half_a_pair": ("json", [r'"\udc00"'], LINES),
    "deep": ("jsonb", ["[" * 1100 + "]" * 1100], LINES),
    "endless": ("date", ["infinity", "2026-01-01"], {*LINES, "csv"}),
    "ancient": ("timestamptz", ["0044-03-15 BC"], {*LINES, "csv"}),
    "remote": ("timestamp", ["10000-01-01"], {*LINES, "csv"}),
    "top": ("bigint NOT NULL", [str(2**63 - 1), str(-(2**63))], set()),
    "top_or_null": ("bigint", [str(2**63 - 512), None], {*LINES, "csv"}),
    "below_top_or_null": ("bigint", [str(2**63 - 513), None], set()),
    "no_number": ("numeric NOT NULL", ["NaN"], {*LINES, "csv"}),
    "or_no_number": ("numeric", ["NaN", "Infinity", "1"], set()),
    "blank": ("text NOT NULL", [""], {"csv"}),
    # In CSV a column is read as numbers, whatever its type, where all it holds in a file are whole ones.
    "whole": ("numeric", ["1", "18446744073709551616", None], {"jsonl", "csv"}),
    "whole_below": ("numeric(19,0)", ["-9223372036854775809"], {"jsonl", "csv"}),
    "whole_or_nan": ("numeric(38,0)", ["NaN", "1" * 38], {"jsonl", "csv"}),
    "whole_json": ("jsonb", ["1e20", "null", None], {"jsonl", "csv"}),
    "digits": ("text", ["12345678901234567890123", "7", "", "null", None], {"csv"}),
    "signed": ("varchar(30)", ["+18446744073709551616", " -0018446744073709551616"], {"csv"}),
    "flags": ("varbit", ["0" * 100 + "1" * 21], {"csv"}),
    "whole_edges": ("numeric(20,0)", ["18446744073709551615", "-9223372036854775808"], set()),
    "whole_or_null": ("numeric", [str(2**63), None], {"csv"}),
    "below_whole_or_null": ("numeric", [str(2**63 - 1), None], set()),
    "pointed_or_nan": ("numeric", ["18446744073709551616", "0.5", "NaN"], {"jsonl", "csv"}),
    "digits_edges": ("text", ["18446744073709551615", "9", None], set()),
    "with_a_point": ("numeric", ["18446744073709551616", "0.5", None], {"jsonl"}),
    "with_places": ("numeric(30,2)", ["18446744073709551616", "NaN", None], {"jsonl"}),
    "or_infinite": ("numeric", ["18446744073709551616", "Infinity"], {"jsonl"}),
    "with_a_letter": ("text", ["18446744073709551616", "7", "x"], set()),
    "padded": ("char(21)", ["18446744073709551616"], set()),
    "listed": ("numeric[]", ["{1}"], set()),
    "masked": ("text", ["18446744073709551616"], set()),
}
MASKED = "tables: {rules: {public.masked: {columns: {mask: {v: redact}}}}}\n"
WAYS = {"jsonl": "format: jsonl", "quoted": "format: jsonl, numbers: quote-large", "csv": "format: csv"}


@pytest.mark.parametrize("way", WAYS)
def test_what_the_linter_does_not_take(pg: PgDatabase, tmp_path: Path, linter: Linter, way: str) -> None:
    """As docs/consumers.md tells. Where only the type is the trouble, `--text` is the way."""
    for name, (kind, values, _) in LIMITS.items():
        pg.execute(f"CREATE TABLE {name} (id serial, v {kind})")
        for value in values:
            pg.execute(f"INSERT INTO {name} (v) VALUES (%s)", [value])
    pg.execute("CREATE TABLE named (valid int NOT NULL); INSERT INTO named VALUES (1)")
    job = Job(pg, tmp_path)
    job.land(MASKED, WAYS[way])
    refused = {name for name, (_, _, ways) in LIMITS.items() if way in ways} | {"named"}
    assert linter.refused(job.zone, job.metadata()) == refused
    text = {"endless", "ancient", "remote", "top_or_null", "whole_or_null"}
    text |= {"pointed_or_nan"} if way == "csv" else set()
    # A column of digits alone is none that it helps.
    options = [option for name in sorted(text | {"digits", "whole"}) for option in ("--text", f"public.{name}.v")]
    documents = job.metadata(*options)
    assert linter.refused(job.zone, documents) == refused - text
    for document in documents:
        for column in document["columns"]:
            column["nullable"] = True
    assert linter.refused(job.zone, documents) == refused - text - {"no_number", "blank", "named"}


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_example_of_the_documentation(service: PgDatabase, tmp_path: Path, linter: Linter) -> None:
    text = (ROOT / "docs/consumers.md").read_text(encoding="utf-8")
    (script,) = [one for one in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "data_linter -c" in one]
    programs = f"{Path(sys.executable).parent}:{PYTHON.parent}:{os.environ['PATH']}"
    environment = {**linter.environment, "PATH": programs, "FLOODMARK_SOURCE": service.url}
    looks = script[script.index("floodmark schema") :]

    def code(text: str) -> int:
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True)
        said.append(done.stdout + done.stderr)
        return done.returncode

    said: list[str] = []
    assert code(script) == 0, said
    landed = [path for path in (tmp_path / "landing/data").rglob("*") if path.is_file()]
    assert len(list((tmp_path / "passed").rglob("*.jsonl"))) == len(landed) == 7
    landed[-1].write_bytes(landed[-1].read_bytes() + b"x\n")
    assert code(looks) != 0 and "Tables did not pass linter" in said[-1]
